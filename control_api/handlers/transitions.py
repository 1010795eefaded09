"""Activate, pause and stop: each one step of the lifecycle, answered when Kafka has the new snapshot."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated

import msgspec

from control_api.domain import lifecycle
from control_api.domain.account import Account
from control_api.domain.campaign import Campaign
from control_api.errors import NotFound
from control_api.handlers.actor import Actor
from control_api.handlers.change import KIND_OF_STATUS, Saved, lock, save, wait_until_published
from control_api.handlers.ports import Store, Unit


class Activation(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The body of activate: `startNow` moves startDate to now, `acknowledgeBudget` accepts a 90 % pause."""

    start_now: bool = False
    acknowledge_budget: bool = False


class Pausing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of pause: an optional reason for the audit log."""

    justification: Annotated[str, msgspec.Meta(max_length=1_000)] | None = None


class Stopping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of stop: why the campaign is cancelled."""

    justification: Annotated[str, msgspec.Meta(min_length=1, max_length=1_000, pattern=r"\S")]


class Transitioned(msgspec.Struct, frozen=True):
    """A campaign after its transition; `published` says whether Kafka has acked its snapshot in time."""

    campaign: Campaign
    account: Account
    published: bool


async def activate(
    store: Store, actor: Actor, campaign_id: str, asked: Activation, if_match: int | None, now: datetime
) -> Transitioned:
    """DRAFT or PAUSED to ACTIVE."""

    async def decide(unit: Unit, campaign: Campaign, account: Account) -> Campaign:
        organization = await unit.organization(actor.organization_id)
        if organization is None:
            raise NotFound("there is no such organization")
        return lifecycle.activate(
            campaign,
            account,
            organization,
            now=now,
            start_now=asked.start_now,
            acknowledge_budget=asked.acknowledge_budget,
        )

    return await _transition(store, actor, campaign_id, if_match, now, decide)


async def pause(
    store: Store, actor: Actor, campaign_id: str, asked: Pausing, if_match: int | None, now: datetime
) -> Transitioned:
    """ACTIVE to PAUSED."""

    async def decide(_unit: Unit, campaign: Campaign, _account: Account) -> Campaign:
        return lifecycle.pause(campaign, now=now)

    return await _transition(store, actor, campaign_id, if_match, now, decide, asked.justification)


async def stop(
    store: Store, actor: Actor, campaign_id: str, asked: Stopping, if_match: int | None, now: datetime
) -> Transitioned:
    """Anything but CANCELLED to CANCELLED."""

    async def decide(_unit: Unit, campaign: Campaign, _account: Account) -> Campaign:
        return lifecycle.stop(campaign, now=now)

    return await _transition(store, actor, campaign_id, if_match, now, decide, asked.justification)


async def _transition(
    store: Store,
    actor: Actor,
    campaign_id: str,
    if_match: int | None,
    now: datetime,
    decide: Callable[[Unit, Campaign, Account], Awaitable[Campaign]],
    justification: str | None = None,
) -> Transitioned:
    async def work(unit: Unit) -> Saved:
        before, account = await lock(unit, actor.organization_id, campaign_id, if_match)
        after = await decide(unit, before, account)
        return await save(
            unit,
            before=before,
            after=after,
            account=account,
            kind=KIND_OF_STATUS[after.status],
            cause=actor.cause(justification),
            now=now,
            updated_by=actor.user_id,
        )

    saved = await store.in_transaction(work)
    published = await wait_until_published(store, saved)
    return Transitioned(saved.campaign, saved.account, published)
