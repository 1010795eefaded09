"""How a change of a campaign is saved: row, account, crossings and outbox in one transaction."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from control_api.domain.account import Account
from control_api.domain.approval import Approval, withdrawn_states
from control_api.domain.audit import AuditEntry, differing, entry_of
from control_api.domain.budget import with_budget_version
from control_api.domain.campaign import Campaign
from control_api.domain.lifecycle import apply_crossings
from control_api.domain.snapshot import Cause, event_of, state_of
from control_api.errors import NotFound, PreconditionFailed, Unavailable
from control_api.handlers.ports import Store, Unit
from control_api.handlers.writes import Writes
from schemas import campaign_state, domain_events
from schemas.domain_events import DomainEventType
from schemas.reasons import CampaignStatus, Threshold

EVENT_PREFIX = "flightline."
_ACK_SECONDS = 2.0
_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.01, 0.1


class Moved(msgspec.Struct, frozen=True):
    """A campaign as it is to be saved, and what comes with it."""

    campaign: Campaign
    crossed: frozenset[Threshold]
    kinds: tuple[DomainEventType, ...]


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """A campaign as committed, its account, and the outbox rows that carry its snapshot."""

    campaign: Campaign
    account: Account
    outbox_ids: tuple[int, ...] = ()


async def lock(
    unit: Unit, organization_id: str, campaign_id: str, if_match: int | None
) -> tuple[Campaign, Account]:
    """A campaign for a change. Raises NotFound, or PreconditionFailed for another version."""
    found = await unit.lock_campaign(organization_id, campaign_id)
    if found is None:
        raise NotFound("there is no such campaign")
    if if_match is not None and found[0].version != if_match:
        raise PreconditionFailed(found[0].version)
    return found


def moved(
    *,
    before: Campaign,
    after: Campaign,
    account: Account,
    kinds: Sequence[DomainEventType],
    now: datetime,
    updated_by: str | None = None,
) -> Moved:
    """What a change of a locked campaign makes of it.

    A change of what it may spend becomes a new budget version, which is compared with what is billed: a
    campaign whose new budget is used up already does not run on.
    """
    versioned, crossed = with_budget_version(after, before, account)
    settled = apply_crossings(versioned, crossed, at=now)
    by = updated_by or before.updated_by
    is_new_wish = after.pending_budget not in (None, before.pending_budget)
    # Another maxImpressions is a new version as well, but no other budget: whoever wrote the budget still may
    # not approve it. A pending budget that became the budget is still the one of who wrote it.
    wrote_budget = is_new_wish or (_money(after) != _money(before) and not _took_pending(before, after))
    campaign = msgspec.structs.replace(
        settled,
        version=before.version + 1,
        updated_at=now,
        updated_by=by,
        budget_changed_by=by if wrote_budget else before.budget_changed_by,
    )
    told = tuple(kinds) if settled.status is after.status else (*kinds, KIND_OF_STATUS[settled.status])
    return Moved(campaign, crossed, told)


async def save(
    unit: Writes,
    *,
    before: Campaign,
    after: Campaign,
    account: Account,
    kind: DomainEventType,
    cause: Cause,
    now: datetime,
    updated_by: str | None = None,
    also: Sequence[DomainEventType] = (),
) -> Saved:
    """Writes a change of a locked campaign with everything that must come with it, in its transaction.

    A new budget version that stands above thresholds from its first moment crosses them here.
    """
    change = moved(
        before=before, after=after, account=account, kinds=(kind, *also), now=now, updated_by=updated_by
    )
    campaign, crossed = change.campaign, change.crossed
    await unit.update_campaign(campaign, before)
    if crossed:
        await unit.record_crossings(campaign, crossed, billed=account.billed, at=now)
        await announce_crossings(unit, campaign, campaign.budget_version, crossed, account.billed, cause, now)
    outbox_id = await publish(unit, campaign, change.kinds, cause, now)
    withdrawn = await _withdraw_approvals(unit, before, campaign, cause, now)
    await audit(unit, before, campaign, change.kinds, cause, now)
    for entry in withdrawn:
        await unit.audit(entry)
    return Saved(campaign=campaign, account=_budgeted(account, campaign), outbox_ids=(outbox_id,))


async def _withdraw_approvals(
    unit: Writes, before: Campaign, after: Campaign, cause: Cause, now: datetime
) -> list[AuditEntry]:
    """Withdraws what was asked or approved for another budget; returns the entries to audit."""
    states = withdrawn_states(before, after)
    if not states:
        return []
    withdrawn = await unit.withdraw_approvals(after.id, states, now)
    kind = DomainEventType.APPROVAL_WITHDRAWN
    return [await announce_approval(unit, kind, after, approval, cause, now) for approval in withdrawn]


async def announce_approval(
    unit: Writes, kind: DomainEventType, campaign: Campaign, approval: Approval, cause: Cause, now: datetime
) -> AuditEntry:
    """Puts the domain event of an approval into the outbox; returns its audit entry, which is for the end."""
    told = {
        "approvalId": approval.id,
        "state": approval.state,
        "requestedMicros": approval.asked.budget,
        "currency": approval.asked.currency,
        "askedBy": approval.asked_by,
    }
    event = msgspec.json.encode(event_of(kind, campaign, cause, now, told))
    await unit.add_to_outbox(domain_events.TOPIC, campaign.id, event)
    action, subject = kind.removeprefix(EVENT_PREFIX), ("campaign", campaign.id)
    return entry_of(cause, now, campaign.organization_id, action, subject, after=told)


def _money(campaign: Campaign) -> tuple[int | None, str]:
    return campaign.effective_budget, campaign.currency


def _took_pending(before: Campaign, after: Campaign) -> bool:
    pending = before.pending_budget
    return (
        pending is not None
        and after.pending_budget is None
        and (after.budget, after.budget_limit) == (pending.budget, pending.budget_limit)
    )


KIND_OF_STATUS = {
    CampaignStatus.ACTIVE: DomainEventType.ACTIVATED,
    CampaignStatus.PAUSED: DomainEventType.PAUSED,
    CampaignStatus.COMPLETED: DomainEventType.COMPLETED,
    CampaignStatus.CANCELLED: DomainEventType.CANCELLED,
}


async def publish(
    unit: Writes, campaign: Campaign, kinds: Iterable[DomainEventType], cause: Cause, now: datetime
) -> int:
    """Puts the snapshot and the domain events into the outbox; returns the id of the snapshot's row."""
    snapshot = msgspec.json.encode(state_of(campaign))
    outbox_id = await unit.add_to_outbox(campaign_state.TOPIC, campaign.id, snapshot)
    for kind in kinds:
        event = msgspec.json.encode(event_of(kind, campaign, cause, now))
        await unit.add_to_outbox(domain_events.TOPIC, campaign.id, event)
    return outbox_id


async def audit(
    unit: Writes,
    before: Campaign | None,
    after: Campaign,
    kinds: Iterable[DomainEventType],
    cause: Cause,
    now: datetime,
) -> None:
    """Writes a change of a campaign into the audit log, an entry for each of its kinds; the first one tells
    what has changed."""
    old, new = differing(before, after)
    for index, kind in enumerate(kinds):
        told = {} if index else {"before": old, "after": new}
        action = kind.removeprefix(EVENT_PREFIX)
        subject = ("campaign", after.id)
        await unit.audit(entry_of(cause, now, after.organization_id, action, subject, **told))


async def announce_crossings(
    unit: Writes,
    campaign: Campaign,
    budget_version: int,
    crossed: Iterable[Threshold],
    billed: int,
    cause: Cause,
    at: datetime,
) -> None:
    """The domain event of each crossing, once."""
    for threshold in sorted(crossed):
        if await unit.announce(campaign.id, budget_version, threshold):
            data: dict[str, Any] = {
                "threshold": threshold,
                "billedMicros": billed,
                "budgetVersion": budget_version,
                "currency": campaign.currency,
            }
            kind = DomainEventType.BUDGET_THRESHOLD_CROSSED
            event = msgspec.json.encode(event_of(kind, campaign, cause, at, data))
            await unit.add_to_outbox(domain_events.TOPIC, campaign.id, event)


async def wait_until_published(store: Store, outbox_ids: Sequence[int]) -> bool:
    """Whether Kafka has the new snapshots, 2 s at most: then every door is about to obey them. The change is
    made, so nothing is raised: while Postgres is away, nobody can say."""
    try:
        async with asyncio.timeout(_ACK_SECONDS):
            pause = _POLL_SECONDS
            while not await store.is_published(outbox_ids):
                await asyncio.sleep(pause)
                # Kafka has most of them within two looks; while it is away, many who wait must not be felt.
                pause = min(2 * pause, _LONGEST_POLL_SECONDS)
    except (TimeoutError, Unavailable):
        return False
    return True


def _budgeted(account: Account, campaign: Campaign) -> Account:
    return msgspec.structs.replace(
        account,
        currency=campaign.currency,
        budget=campaign.effective_budget,
        budget_version=campaign.budget_version,
        max_impressions=campaign.max_impressions,
    )
