"""Deliveries as their organization sees them: listed, sent again, and events for a test."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from control_api.domain.audit import entry_of
from control_api.domain.deliveries import Delivery
from control_api.domain.snapshot import SOURCE
from control_api.domain.webhooks import TEST, Webhook
from control_api.errors import NotFound, WebhookInactive
from control_api.handlers.actor import Actor
from control_api.handlers.ports import Store, Unit
from control_api.handlers.webhooks import found
from schemas.domain_events import SPEC_VERSION, time_of
from schemas.ids import new_id

_AT_ONCE = 2_000


class DeliveryPage(msgspec.Struct, frozen=True):
    """The newest first, and whether there are more."""

    items: list[Delivery]
    more: bool


async def page(
    store: Store,
    actor: Actor,
    webhook_id: str,
    *,
    states: Sequence[str] | None,
    before: str | None,
    most: int,
) -> DeliveryPage:
    """Deliveries to a webhook, older than the one whose id is `before`."""

    async def work(unit: Unit) -> DeliveryPage:
        await found(unit, actor, webhook_id)
        rows = await unit.deliveries.page(webhook_id, states, before, most + 1)
        return DeliveryPage(rows[:most], len(rows) > most)

    return await store.in_transaction(work)


async def get(store: Store, actor: Actor, webhook_id: str, delivery_id: str) -> Delivery:
    """One delivery. Raises NotFound."""

    async def work(unit: Unit) -> Delivery:
        await found(unit, actor, webhook_id)
        return await _found(unit, webhook_id, delivery_id)

    return await store.in_transaction(work)


async def redeliver(store: Store, actor: Actor, webhook_id: str, delivery_id: str, now: datetime) -> Delivery:
    """Sends it again, delivered or not, with all attempts ahead of it. Raises WebhookInactive."""

    async def work(unit: Unit) -> Delivery:
        _require_active(await found(unit, actor, webhook_id))
        await _found(unit, webhook_id, delivery_id)
        await unit.deliveries.redeliver(delivery_id, now)
        delivery = await _found(unit, webhook_id, delivery_id)
        await _audit(unit, actor, webhook_id, now, {"event": delivery.event_id})
        return delivery

    return await store.in_transaction(work)


async def redeliver_dead(store: Store, actor: Actor, webhook_id: str, now: datetime) -> int:
    """Sends the whole dead-letter list again; how many those are."""

    async def work(unit: Unit) -> int:
        _require_active(await found(unit, actor, webhook_id))
        some = await unit.deliveries.redeliver_dead(webhook_id, now, _AT_ONCE)
        if some:
            await _audit(unit, actor, webhook_id, now, {"dead": some})
        return some

    total = 0
    while (some := await store.in_transaction(work)) == _AT_ONCE:
        total += some
    return total + some


async def send_test(store: Store, actor: Actor, webhook_id: str, now: datetime) -> Delivery:
    """An event of the type flightline.webhook.test, whatever types the webhook asks for."""

    async def work(unit: Unit) -> Delivery:
        webhook = await found(unit, actor, webhook_id)
        _require_active(webhook)
        delivery = _test_delivery(webhook, actor, now)
        await unit.deliveries.add(delivery)
        return delivery

    return await store.in_transaction(work)


def _test_delivery(webhook: Webhook, actor: Actor, now: datetime) -> Delivery:
    event_id = new_id()
    event = {
        "id": event_id,
        "source": SOURCE,
        "type": TEST,
        "subject": webhook.id,
        "time": time_of(now),
        "organization": webhook.organization_id,
        "specversion": SPEC_VERSION,
        "datacontenttype": "application/json",
        "correlationid": actor.correlation_id,
        "traceparent": actor.traceparent,
        "data": {"actor": actor.name},
    }
    return delivery_of(webhook, event_id, TEST, webhook.id, msgspec.json.encode(event), now)


def delivery_of(
    webhook: Webhook, event_id: str, event_type: str, subject: str, payload: bytes, now: datetime
) -> Delivery:
    """A delivery that is due at once."""
    return Delivery(
        id=new_id(),
        webhook_id=webhook.id,
        organization_id=webhook.organization_id,
        event_id=event_id,
        event_type=event_type,
        subject=subject,
        payload=payload,
        next_attempt_at=now,
        created_at=now,
    )


async def _audit(unit: Unit, actor: Actor, webhook_id: str, now: datetime, told: dict[str, Any]) -> None:
    subject = ("webhook", webhook_id)
    entry = entry_of(actor.cause(), now, actor.organization_id, "webhook.redelivered", subject, after=told)
    await unit.audit(entry)


async def _found(unit: Unit, webhook_id: str, delivery_id: str) -> Delivery:
    delivery = await unit.deliveries.get(webhook_id, delivery_id)
    if delivery is None:
        raise NotFound("there is no such delivery")
    return delivery


def _require_active(webhook: Webhook) -> None:
    if not webhook.active:
        raise WebhookInactive("nothing is sent to a webhook that is not active")
