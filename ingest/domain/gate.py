"""Whether a campaign is to be shown, and whether what happened to it is billable."""

import msgspec

from schemas.budget_gates import BudgetGate
from schemas.campaign_state import Attribution, CampaignState
from schemas.reasons import CampaignStatus, EventType, StatusReason, Threshold, Unbilled

_HOUR_MS = 3_600_000
_DAY_MS = 86_400_000
_ACKNOWLEDGEABLE = 90


class Verdict(msgspec.Struct, frozen=True):
    """`reason` says why an event is not billable (None: it is). `serve` is whether to go on showing the
    campaign: false also for a late click that is still billable."""

    serve: bool
    reason: Unbilled | None


class Closure(msgspec.Struct, frozen=True):
    """Something that keeps a campaign from running; `since` in epoch ms, None when nothing may come late."""

    reason: Unbilled
    since: int | None


_RUNNING = Verdict(serve=True, reason=None)
_LATE = Verdict(serve=False, reason=None)
_CLOSED = {reason: Verdict(serve=False, reason=reason) for reason in Unbilled}

_BY_REASON = {
    StatusReason.BUDGET_90: Unbilled.BUDGET_90,
    StatusReason.BUDGET_100: Unbilled.BUDGET_100,
    StatusReason.MAX_IMPRESSIONS: Unbilled.MAX_IMPRESSIONS,
    StatusReason.END_DATE: Unbilled.END_DATE,
}
_BY_THRESHOLD = {
    Threshold.BUDGET_90: Unbilled.BUDGET_90,
    Threshold.BUDGET_100: Unbilled.BUDGET_100,
    Threshold.MAX_IMPRESSIONS: Unbilled.MAX_IMPRESSIONS,
}
_ALLOWS_LATE = frozenset({Unbilled.PAUSED, Unbilled.BUDGET_90, Unbilled.MAX_IMPRESSIONS, Unbilled.END_DATE})
# When several things keep a campaign closed, the most final one is the answer.
_FINALITY = (
    Unbilled.CANCELLED,
    Unbilled.DRAFT,
    Unbilled.BUDGET_100,
    Unbilled.MAX_IMPRESSIONS,
    Unbilled.END_DATE,
    Unbilled.BUDGET_90,
    Unbilled.PAUSED,
    Unbilled.NOT_STARTED,
)


def decide(state: CampaignState, gate: BudgetGate | None, now: int, event_type: EventType) -> Verdict:
    """The verdict on an event that arrives at `now` (epoch ms)."""
    closures = closures_of(state, gate, now)
    if not closures:
        return _RUNNING
    window = _late_window(state.attribution, event_type)
    if window and all(closure.since is not None and now < closure.since + window for closure in closures):
        return _LATE
    return _CLOSED[_most_final(closures)]


def serving(state: CampaignState, gate: BudgetGate | None, now: int) -> Unbilled | None:
    """None while the campaign is to be shown, else why not."""
    closures = closures_of(state, gate, now)
    return _most_final(closures) if closures else None


def closures_of(state: CampaignState, gate: BudgetGate | None, now: int) -> list[Closure]:
    """All that keeps the campaign closed: its status, its dates by the door's own clock, its budget."""
    closures: list[Closure] = []
    if state.status is not CampaignStatus.ACTIVE:
        closures.append(_closure(_status_reason(state), state.closed_since))
    if now < state.starts_at:
        closures.append(_closure(Unbilled.NOT_STARTED, None))
    if state.ends_at is not None and now >= state.ends_at:
        closures.append(_closure(Unbilled.END_DATE, state.ends_at))
    if gate is not None and gate.budget_version >= state.budget_version:
        closures.extend(_budget_closures(state, gate))
    return closures


def _closure(reason: Unbilled, since: int | None) -> Closure:
    return Closure(reason, since if reason in _ALLOWS_LATE else None)


def _status_reason(state: CampaignState) -> Unbilled:
    match state.status:
        case CampaignStatus.DRAFT:
            return Unbilled.DRAFT
        case CampaignStatus.CANCELLED:
            return Unbilled.CANCELLED
        case CampaignStatus.COMPLETED:
            return _BY_REASON[state.status_reason or StatusReason.END_DATE]
        case _:
            return _BY_REASON[state.status_reason] if state.status_reason else Unbilled.PAUSED


def _budget_closures(state: CampaignState, gate: BudgetGate) -> list[Closure]:
    """A gate of a version that the state does not know yet counts with all its thresholds."""
    acknowledged = (
        state.acknowledged_threshold >= _ACKNOWLEDGEABLE and gate.budget_version == state.budget_version
    )
    crossed = [
        threshold for threshold in gate.thresholds if not (acknowledged and threshold is Threshold.BUDGET_90)
    ]
    if gate.budget_version > state.budget_version and not crossed:
        crossed = [Threshold.BUDGET_90]
    return [_closure(_BY_THRESHOLD[threshold], gate.at) for threshold in crossed]


def _late_window(attribution: Attribution, event_type: EventType) -> int:
    if event_type is EventType.CLICK:
        return attribution.click_hours * _HOUR_MS
    if event_type is EventType.CONVERSION:
        return attribution.conversion_days * _DAY_MS
    return 0


def _most_final(closures: list[Closure]) -> Unbilled:
    return min((closure.reason for closure in closures), key=_FINALITY.index)
