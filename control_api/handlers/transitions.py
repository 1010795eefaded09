"""Activate, pause, stop, delete: each one step of the lifecycle, answered when Kafka has the new snapshot."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated

import msgspec

from control_api.domain import lifecycle
from control_api.domain.account import Account
from control_api.domain.campaign import Campaign
from control_api.domain.organization import Organization
from control_api.errors import Unauthorized
from control_api.handlers.actor import Actor
from control_api.handlers.change import KIND_OF_STATUS, Saved, lock, moved, save, wait_until_published
from control_api.handlers.ports import Store, Unit
from schemas.domain_events import DomainEventType


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


class Step(msgspec.Struct, frozen=True):
    """A transition that somebody asks for. `decide` makes the campaign of after it, or raises a Refusal."""

    decide: Callable[[Campaign, Account, Organization, datetime], Campaign]
    justification: str | None = None


def activation(asked: Activation) -> Step:
    """DRAFT or PAUSED to ACTIVE."""

    def decide(campaign: Campaign, account: Account, organization: Organization, now: datetime) -> Campaign:
        return lifecycle.activate(
            campaign,
            account,
            organization,
            now=now,
            start_now=asked.start_now,
            acknowledge_budget=asked.acknowledge_budget,
        )

    return Step(decide)


def pausing(asked: Pausing) -> Step:
    """ACTIVE to PAUSED."""
    return Step(
        lambda campaign, _account, _organization, now: lifecycle.pause(campaign, now=now), asked.justification
    )


def stopping(asked: Stopping) -> Step:
    """Anything but CANCELLED to CANCELLED."""
    return Step(
        lambda campaign, _account, _organization, now: lifecycle.stop(campaign, now=now), asked.justification
    )


def deletion(justification: str | None = None) -> Step:
    """Only without recorded events, and not while ACTIVE. The account stays, and a row to publish from."""

    def decide(campaign: Campaign, account: Account, _organization: Organization, now: datetime) -> Campaign:
        lifecycle.require_deletable(campaign, account)
        return msgspec.structs.replace(campaign, deleted_at=now)

    return Step(decide, justification)


async def activate(
    store: Store, actor: Actor, campaign_id: str, asked: Activation, if_match: int | None, now: datetime
) -> Transitioned:
    """DRAFT or PAUSED to ACTIVE."""
    return await carry_out(store, actor, campaign_id, activation(asked), if_match, now)


async def pause(
    store: Store, actor: Actor, campaign_id: str, asked: Pausing, if_match: int | None, now: datetime
) -> Transitioned:
    """ACTIVE to PAUSED."""
    return await carry_out(store, actor, campaign_id, pausing(asked), if_match, now)


async def stop(
    store: Store, actor: Actor, campaign_id: str, asked: Stopping, if_match: int | None, now: datetime
) -> Transitioned:
    """Anything but CANCELLED to CANCELLED."""
    return await carry_out(store, actor, campaign_id, stopping(asked), if_match, now)


async def delete(store: Store, actor: Actor, campaign_id: str, if_match: int | None, now: datetime) -> None:
    """Only without recorded events, and not while ACTIVE."""
    await store.in_transaction(_saving(actor, campaign_id, deletion(), if_match, now))


async def carry_out(
    store: Store, actor: Actor, campaign_id: str, step: Step, if_match: int | None, now: datetime
) -> Transitioned:
    """One step of a campaign; waits until its snapshot is published."""
    saved = await store.in_transaction(_saving(actor, campaign_id, step, if_match, now))
    published = await wait_until_published(store, saved.outbox_ids)
    return Transitioned(saved.campaign, saved.account, published)


async def preview(
    store: Store, actor: Actor, campaign_id: str, step: Step, if_match: int | None, now: datetime
) -> Saved:
    """The campaign as the step would make it; raises what it would raise. Writes nothing at all."""

    async def work(unit: Unit) -> Saved:
        before, account = await lock(unit, actor.organization_id, campaign_id, if_match)
        after = step.decide(before, account, await organization_of(unit, actor), now)
        change = moved(
            before=before, after=after, account=account, kinds=(), now=now, updated_by=actor.user_id
        )
        return Saved(campaign=change.campaign, account=account)

    return await store.in_transaction(work)


async def organization_of(unit: Unit, actor: Actor) -> Organization:
    """The actor's organization. Raises Unauthorized."""
    organization = await unit.organization(actor.organization_id)
    if organization is None:
        raise Unauthorized("the token names an organization that does not exist")
    return organization


def kind_of(after: Campaign) -> DomainEventType:
    """The domain event of a step that led here."""
    return DomainEventType.DELETED if after.deleted_at is not None else KIND_OF_STATUS[after.status]


def _saving(
    actor: Actor, campaign_id: str, step: Step, if_match: int | None, now: datetime
) -> Callable[[Unit], Awaitable[Saved]]:
    async def work(unit: Unit) -> Saved:
        before, account = await lock(unit, actor.organization_id, campaign_id, if_match)
        after = step.decide(before, account, await organization_of(unit, actor), now)
        return await save(
            unit,
            before=before,
            after=after,
            account=account,
            kind=kind_of(after),
            cause=actor.cause(step.justification),
            now=now,
            updated_by=actor.user_id,
        )

    return work
