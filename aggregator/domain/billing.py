"""What a batch costs: exact integers, in the order of the log, never above a budget.

Pure: the ledger hands in what each campaign has left, and saves what comes out.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from aggregator.domain.crossing import Crossing, Limits, crossed_by, near_threshold
from schemas.budget_gates import Coordinates
from schemas.events import INDEX_BITS, TrackingEvent
from schemas.reasons import EventType, Threshold, Unbilled


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A campaign's account as it was locked. Money is micros; None for no budget or no limit."""

    campaign_id: str
    organization_id: str
    currency: str
    budget: int | None
    budget_version: int
    max_impressions: int | None
    billed: int
    billable_impressions: int
    flat_billed: bool
    gate_version: int


class Opening(msgspec.Struct, frozen=True, array_like=True):
    """What a campaign had left when a batch began: micros, billable impressions, and whether its flat fee was
    still due. With the log, the rows of the batch follow from it."""

    money: int | None
    impressions: int | None
    flat_due: bool


class Remaining:
    """What is left of an opening while a batch is walked in the order of the log."""

    def __init__(self, opening: Opening) -> None:
        self._money = opening.money
        self._impressions = opening.impressions
        self._flat_due = opening.flat_due

    def charge(self, event: TrackingEvent) -> tuple[int, int]:
        """(billed, overdelivery) of the next event, in micros."""
        if not event.billable:
            return 0, 0
        cost = event.cost
        if event.flat and not self._flat_due:
            cost = 0
        if event.type is EventType.IMPRESSION and self._impressions is not None:
            if self._impressions == 0:
                return 0, 0 if event.flat else cost
            self._impressions -= 1
        if event.flat and cost:  # as the account: a fee of 0 is never billed, wherever a batch ends
            self._flat_due = False
        if self._money is None:
            return cost, 0
        billed = min(self._money, cost)
        self._money -= billed
        return billed, cost - billed


class Delta(msgspec.Struct):
    """What a batch adds to a campaign's account. Counts exclude duplicates and bots; money is micros."""

    campaign_id: str
    organization_id: str
    currency: str
    impressions: int = 0
    clicks: int = 0
    conversions: int = 0
    bounces: int = 0
    unsubscribes: int = 0
    billable_impressions: int = 0
    billed: int = 0
    overdelivery: int = 0
    revenue: int = 0
    unverified_revenue: int = 0
    invalid_impressions: int = 0
    invalid_clicks: int = 0
    invalid_conversions: int = 0
    duplicates: int = 0
    flat_billed: bool = False
    has_flat: bool = False
    last_received_at: int = 0
    unbilled: dict[str, int] = msgspec.field(default_factory=dict)


_IMPRESSION = EventType.IMPRESSION
_COUNTED = {
    EventType.IMPRESSION: "impressions",
    EventType.CLICK: "clicks",
    EventType.CONVERSION: "conversions",
    EventType.BOUNCE: "bounces",
    EventType.UNSUBSCRIBE: "unsubscribes",
}
_INVALID = {
    EventType.IMPRESSION: "invalid_impressions",
    EventType.CLICK: "invalid_clicks",
    EventType.CONVERSION: "invalid_conversions",
}


def tally(events: Sequence[TrackingEvent], duplicates: Iterable[int]) -> dict[str, Delta]:
    """Counts of each campaign, with `billed` set to the full cost of its billable events.

    `duplicates` are indexes into `events`: they are counted as such and in nothing else.
    """
    dropped = set(duplicates)
    deltas: dict[str, Delta] = {}
    for index, event in enumerate(events):
        campaign_id = event.campaign_id
        delta = deltas.get(campaign_id)
        if delta is None:
            delta = deltas[campaign_id] = Delta(campaign_id, event.organization_id, event.currency)
        if index in dropped:
            delta.duplicates += 1
        elif event.type is _IMPRESSION and event.reason is None and not event.revenue:
            # Nearly all events, counted here: a call for each would cost as much again.
            delta.impressions += 1
            received_at = event.received_at
            if received_at > delta.last_received_at:  # noqa: PLR1730  max() is a call
                delta.last_received_at = received_at
            if event.billable:
                delta.billable_impressions += 1
                delta.billed += event.cost
                if event.flat:
                    delta.has_flat = True
        else:
            _count(delta, event)
    return deltas


def _count(delta: Delta, event: TrackingEvent) -> None:
    if event.reason is Unbilled.BOT:
        field = _INVALID.get(event.type)
        if field is not None:
            setattr(delta, field, getattr(delta, field) + 1)
        return
    field = _COUNTED[event.type]
    setattr(delta, field, getattr(delta, field) + 1)
    delta.billable_impressions += event.billable and event.type is _IMPRESSION
    delta.last_received_at = max(delta.last_received_at, event.received_at)
    if event.revenue:
        delta.revenue += event.revenue
        if not event.revenue_verified:
            delta.unverified_revenue += event.revenue
    if event.billable:
        delta.billed += event.cost
        delta.has_flat |= event.flat
    elif event.reason is not None:
        delta.unbilled[event.reason] = delta.unbilled.get(event.reason, 0) + 1


class Bill(msgspec.Struct, frozen=True):
    """The outcome of a batch: what to add, what was crossed, and the openings that its rows need."""

    deltas: dict[str, Delta]
    crossings: list[Crossing]
    openings: dict[str, Opening]


def at_risk(deltas: Iterable[Delta], limits: Iterable[Limits]) -> list[str]:
    """Campaigns that can't be billed in full at once: near a threshold, or with a flat fee. `limits` has one
    for each of the deltas.

    All others are billed the sum of their costs without a look at their order.
    """
    return [
        delta.campaign_id
        for delta, limit in zip(deltas, limits, strict=True)
        if delta.has_flat or near_threshold(limit, delta.billed, delta.billable_impressions)
    ]


def bill(
    events: Sequence[TrackingEvent],
    positions: Sequence[int],
    duplicates: Iterable[int],
    deltas: dict[str, Delta],
    accounts: Mapping[str, Account],
    crossed: Mapping[str, frozenset[Threshold]],
    *,
    partition: int,
    incarnation: int,
) -> Bill:
    """Bills a batch. `deltas` are those of `tally`, and are completed in place. `accounts` are those at risk,
    `crossed` names what each of them has crossed in its budget version before."""
    if not accounts:
        return Bill(deltas, [], {})
    openings = {campaign_id: _opening(account) for campaign_id, account in accounts.items()}
    remaining = {campaign_id: Remaining(opening) for campaign_id, opening in openings.items()}
    seen = {campaign_id: set(crossed.get(campaign_id, ())) for campaign_id in accounts}
    for campaign_id in accounts:
        delta = deltas[campaign_id]
        delta.billed = delta.overdelivery = delta.billable_impressions = 0
    crossings: list[Crossing] = []
    dropped = set(duplicates)
    for index, event in enumerate(events):
        account = accounts.get(event.campaign_id)
        if account is None or index in dropped or not event.billable:
            continue
        delta = deltas[event.campaign_id]
        _charge(delta, account, event, remaining[event.campaign_id])
        at = _coordinates(incarnation, partition, positions[index])
        for threshold in crossed_by(account, delta.billed, delta.billable_impressions):
            if threshold not in seen[event.campaign_id]:
                seen[event.campaign_id].add(threshold)
                crossings.append(_crossing(account, delta, threshold, event, at))
    return Bill(deltas, crossings, _needed(openings, deltas))


def _opening(account: Account) -> Opening:
    return Opening(
        money=None if account.budget is None else account.budget - account.billed,
        impressions=None
        if account.max_impressions is None
        else account.max_impressions - account.billable_impressions,
        flat_due=not account.flat_billed,
    )


def _charge(delta: Delta, account: Account, event: TrackingEvent, remaining: Remaining) -> None:
    billed, overdelivery = remaining.charge(event)
    delta.billed += billed
    delta.overdelivery += overdelivery
    delta.flat_billed |= event.flat and billed + overdelivery > 0
    if event.type is EventType.IMPRESSION:
        limit = account.max_impressions
        within = limit is None or account.billable_impressions + delta.billable_impressions < limit
        delta.billable_impressions += within


def _coordinates(incarnation: int, partition: int, position: int) -> Coordinates:
    return Coordinates(incarnation, partition, position >> INDEX_BITS, position & ((1 << INDEX_BITS) - 1))


def _crossing(
    account: Account, delta: Delta, threshold: Threshold, event: TrackingEvent, at: Coordinates
) -> Crossing:
    return Crossing(
        campaign_id=account.campaign_id,
        organization_id=account.organization_id,
        budget_version=account.budget_version,
        threshold=threshold,
        billed=account.billed + delta.billed,
        received_at=event.received_at,
        cause=at,
    )


def _needed(openings: dict[str, Opening], deltas: Mapping[str, Delta]) -> dict[str, Opening]:
    """Openings of campaigns that were clipped or have a flat fee; the rows of others are billed in full."""
    return {
        campaign_id: opening
        for campaign_id, opening in openings.items()
        if deltas[campaign_id].overdelivery or deltas[campaign_id].has_flat
    }
