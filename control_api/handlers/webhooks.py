"""Webhooks: made, changed, their secret rotated, deleted."""

from datetime import datetime, timedelta
from typing import Any

import msgspec

from control_api.domain.audit import entry_of
from control_api.domain.snapshot import Cause
from control_api.domain.webhooks import MOST, Rotation, Webhook, WebhookRequest, check_url
from control_api.errors import InvalidRequest, NotFound, PreconditionFailed, TooManyWebhooks, Unauthorized
from control_api.handlers.actor import Actor
from control_api.handlers.ports import Store, Unit
from control_api.handlers.webhook_ports import Secrets
from schemas.ids import new_id

DEACTIVATED = "the webhook was deactivated"
_TOLD = ("url", "event_types", "description", "active", "inactive_reason")


class MadeWebhook(msgspec.Struct, frozen=True):
    """A webhook with its new secret, which nobody can see again."""

    webhook: Webhook
    secret: str


async def make(
    store: Store, secrets: Secrets, actor: Actor, asked: WebhookRequest, now: datetime, *, private: bool
) -> MadeWebhook:
    """A new webhook; it gets what happens from now on. Raises InvalidRequest, TooManyWebhooks."""
    if errors := tuple(check_url(asked.url, private=private)):
        raise InvalidRequest(errors)

    async def work(unit: Unit) -> MadeWebhook:
        # Locked, so that two at once do not both become the last one.
        if await unit.lock_organization(actor.organization_id) is None:
            raise Unauthorized("the token names an organization that does not exist")
        if len(await unit.webhooks.of_organization(actor.organization_id)) >= MOST:
            raise TooManyWebhooks(f"an organization has {MOST} webhooks at most")
        webhook_id, clear = new_id(), secrets.new()
        webhook = Webhook(
            id=webhook_id,
            organization_id=actor.organization_id,
            url=asked.url,
            event_types=tuple(dict.fromkeys(asked.event_types)),
            description=asked.description,
            active=asked.active,
            active_since=now,
            secret=secrets.seal(webhook_id, clear),
            created_by=actor.user_id,
            created_at=now,
            updated_by=actor.user_id,
            updated_at=now,
        )
        await unit.webhooks.create(webhook)
        await audit(unit, "webhook.created", actor.cause(), now, after=webhook)
        return MadeWebhook(webhook, clear)

    return await store.in_transaction(work)


async def list_all(store: Store, actor: Actor) -> list[Webhook]:
    """All of the organization, in order of their making."""

    async def work(unit: Unit) -> list[Webhook]:
        return await unit.webhooks.of_organization(actor.organization_id)

    return await store.in_transaction(work)


async def get(store: Store, actor: Actor, webhook_id: str) -> Webhook:
    """One of them. Raises NotFound."""

    async def work(unit: Unit) -> Webhook:
        return await found(unit, actor, webhook_id)

    return await store.in_transaction(work)


async def replace(
    store: Store,
    actor: Actor,
    webhook_id: str,
    asked: WebhookRequest,
    if_match: int,
    now: datetime,
    *,
    private: bool,
) -> Webhook:
    """PUT. What waits for a webhook that is deactivated becomes dead letters. Raises InvalidRequest."""
    if errors := tuple(check_url(asked.url, private=private)):
        raise InvalidRequest(errors)

    async def work(unit: Unit) -> Webhook:
        before = await lock(unit, actor, webhook_id, if_match)
        after = msgspec.structs.replace(
            before,
            url=asked.url,
            event_types=tuple(dict.fromkeys(asked.event_types)),
            description=asked.description,
            active=asked.active,
            active_since=before.active_since if before.active else now,
            inactive_reason=None if asked.active else before.inactive_reason,
            updated_by=actor.user_id,
            updated_at=now,
            version=before.version + 1,
        )
        await unit.webhooks.update(after)
        if not after.active:
            await unit.deliveries.give_up_pending(webhook_id, DEACTIVATED)
        await audit(unit, "webhook.updated", actor.cause(), now, before=before, after=after)
        return after

    return await store.in_transaction(work)


async def rotate(
    store: Store, secrets: Secrets, actor: Actor, webhook_id: str, asked: Rotation, now: datetime
) -> MadeWebhook:
    """A new secret; the one before it signs as well for the hours asked for, any older one no more."""

    async def work(unit: Unit) -> MadeWebhook:
        before, clear = await lock(unit, actor, webhook_id, None), secrets.new()
        after = msgspec.structs.replace(
            before,
            secret=secrets.seal(webhook_id, clear),
            previous_secret=before.secret if asked.overlap_hours else None,
            previous_until=now + timedelta(hours=asked.overlap_hours) if asked.overlap_hours else None,
            updated_by=actor.user_id,
            updated_at=now,
            version=before.version + 1,
        )
        await unit.webhooks.update(after)
        told = {"previous_until": after.previous_until}
        subject = ("webhook", webhook_id)
        action = "webhook.secret-rotated"
        await unit.audit(entry_of(actor.cause(), now, actor.organization_id, action, subject, after=told))
        return MadeWebhook(after, clear)

    return await store.in_transaction(work)


async def delete(store: Store, actor: Actor, webhook_id: str, if_match: int | None, now: datetime) -> None:
    """Nothing more is sent to it, not even what waits."""

    async def work(unit: Unit) -> None:
        before = await lock(unit, actor, webhook_id, if_match)
        await unit.webhooks.delete(webhook_id)
        await audit(unit, "webhook.deleted", actor.cause(), now, before=before)

    await store.in_transaction(work)


async def found(unit: Unit, actor: Actor, webhook_id: str) -> Webhook:
    """A webhook of the actor's organization. Raises NotFound."""
    webhook = await unit.webhooks.get(actor.organization_id, webhook_id)
    if webhook is None:
        raise NotFound("there is no such webhook")
    return webhook


async def lock(unit: Unit, actor: Actor, webhook_id: str, if_match: int | None) -> Webhook:
    """The same for a change. Raises PreconditionFailed for another version."""
    webhook = await unit.webhooks.lock(actor.organization_id, webhook_id)
    if webhook is None:
        raise NotFound("there is no such webhook")
    if if_match is not None and webhook.version != if_match:
        raise PreconditionFailed(webhook.version)
    return webhook


async def audit(
    unit: Unit,
    action: str,
    cause: Cause,
    now: datetime,
    *,
    before: Webhook | None = None,
    after: Webhook | None = None,
) -> None:
    """Writes a change of a webhook into the audit log: never its secrets."""
    webhook = after or before
    if webhook is None:
        return
    old, new = _told(before), _told(after)
    subject = ("webhook", webhook.id)
    await unit.audit(
        entry_of(cause, now, webhook.organization_id, action, subject, before=old or None, after=new or None)
    )


def _told(webhook: Webhook | None) -> dict[str, Any]:
    return {} if webhook is None else {name: getattr(webhook, name) for name in _TOLD}
