"""How a change of a campaign is saved: row, account, crossings and outbox in one transaction."""

import asyncio
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from control_api.domain.account import Account
from control_api.domain.budget import with_budget_version
from control_api.domain.campaign import Campaign
from control_api.domain.lifecycle import apply_crossings
from control_api.domain.snapshot import Cause, event_of, state_of
from control_api.errors import NotFound, PreconditionFailed
from control_api.handlers.ports import Store, Unit
from schemas import campaign_state, domain_events
from schemas.domain_events import DomainEventType
from schemas.reasons import CampaignStatus, Threshold

_ACK_SECONDS = 2.0
_POLL_SECONDS = 0.01


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


async def save(
    unit: Unit,
    *,
    before: Campaign,
    after: Campaign,
    account: Account,
    kind: DomainEventType,
    cause: Cause,
    now: datetime,
    updated_by: str | None = None,
) -> Saved:
    """Writes a change of a locked campaign with everything that must come with it.

    A change of what it may spend becomes a new budget version, which is compared with what is billed here, in
    the same transaction: a campaign whose new budget is used up already does not run on.
    """
    versioned, crossed = with_budget_version(after, before, account)
    moved = apply_crossings(versioned, crossed, at=now)
    campaign = msgspec.structs.replace(
        moved, version=before.version + 1, updated_at=now, updated_by=updated_by or before.updated_by
    )
    await unit.update_campaign(campaign, before)
    if crossed:
        await unit.record_crossings(campaign, crossed, billed=account.billed, at=now)
        await announce_crossings(unit, campaign, campaign.budget_version, crossed, account.billed, cause, now)
    kinds = [kind] if moved.status is after.status else [kind, KIND_OF_STATUS[moved.status]]
    outbox_id = await publish(unit, campaign, kinds, cause, now)
    return Saved(campaign=campaign, account=_budgeted(account, campaign), outbox_ids=(outbox_id,))


KIND_OF_STATUS = {
    CampaignStatus.ACTIVE: DomainEventType.ACTIVATED,
    CampaignStatus.PAUSED: DomainEventType.PAUSED,
    CampaignStatus.COMPLETED: DomainEventType.COMPLETED,
    CampaignStatus.CANCELLED: DomainEventType.CANCELLED,
}


async def publish(
    unit: Unit, campaign: Campaign, kinds: Iterable[DomainEventType], cause: Cause, now: datetime
) -> int:
    """Puts the snapshot and the domain events into the outbox; returns the id of the snapshot's row."""
    snapshot = msgspec.json.encode(state_of(campaign))
    outbox_id = await unit.add_to_outbox(campaign_state.TOPIC, campaign.id, snapshot)
    for kind in kinds:
        event = msgspec.json.encode(event_of(kind, campaign, cause, now))
        await unit.add_to_outbox(domain_events.TOPIC, campaign.id, event)
    return outbox_id


async def announce_crossings(
    unit: Unit,
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


async def wait_until_published(store: Store, saved: Saved) -> bool:
    """Whether Kafka has the new snapshot, 2 s at most: then every door is about to obey it."""
    try:
        async with asyncio.timeout(_ACK_SECONDS):
            while not await store.is_published(saved.outbox_ids):
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
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
