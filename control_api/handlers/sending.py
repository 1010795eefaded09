"""From the topic of domain events to subscribers: which deliveries there are, and one attempt at each."""

from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec
from standardwebhooks.webhooks import Webhook as Signing

from control_api.domain.deliveries import Outcome, Reply, outcome
from control_api.domain.snapshot import Cause
from control_api.domain.webhooks import GONE, Occurrence, wants
from control_api.handlers.deliveries import delivery_of
from control_api.handlers.ports import Store, Unit
from control_api.handlers.webhook_ports import Claimed, Secrets
from control_api.handlers.webhooks import DEACTIVATED, audit

SUBSCRIBER = Cause("flightline:webhooks")
_GONE_ERROR = "the subscriber answered 410: it wants no more"


class ReadEvent(msgspec.Struct, frozen=True):
    """A record of `campaign-events`; `event` is None where it cannot be read."""

    offset: int
    event: Occurrence | None
    value: bytes


async def take(store: Store, partition: int, records: list[ReadEvent], now: datetime) -> int:
    """Writes the deliveries of records that follow each other, and how far that goes, in one transaction.

    Any number of readers may hand in the same records: what one has done is behind the partition's offset for
    the others, and an event that was published twice is there already. Returns how many deliveries were made.
    """

    async def work(unit: Unit) -> int:
        next_offset = await unit.deliveries.lock_offset(partition)
        fresh = [record for record in records if record.offset >= next_offset]
        if not fresh:
            return 0
        made = await _add(unit, fresh, now)
        await unit.deliveries.set_offset(partition, fresh[-1].offset + 1)
        return made

    return await store.in_transaction(work)


async def _add(unit: Unit, records: Iterable[ReadEvent], now: datetime) -> int:
    told = [(record.event, record.value) for record in records if record.event is not None]
    if not told:
        return 0
    subscribers = await unit.webhooks.subscribers({event.organization for event, _ in told})
    made = 0
    for event, value in told:
        for webhook in subscribers:
            if wants(webhook, event):
                delivery = delivery_of(webhook, event.id, event.type, event.subject, value, now)
                made += await unit.deliveries.add(delivery)
    return made


def signed_headers(claimed: Claimed, secrets: Secrets, now: datetime) -> dict[str, str] | None:
    """The headers of Standard Webhooks; None when no secret can be opened.

    `webhook-id` is the event's id: the same in every attempt, and when it is sent again on request.
    """
    sealed = [part for part in (claimed.secret, claimed.previous_secret) if part is not None]
    clear = [secrets.open(claimed.webhook_id, part) for part in sealed]
    body = claimed.payload.decode()
    signatures = [Signing(secret).sign(claimed.event_id, now, body) for secret in clear if secret]
    if not signatures:
        return None
    return {
        "webhook-id": claimed.event_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


async def record(
    store: Store, claimed: Claimed, reply: Reply, now: datetime, chance: Callable[[], float]
) -> Outcome:
    """Writes what came of an attempt; a subscriber that is gone is deactivated with it."""
    decided = outcome(claimed.attempts, reply, now, chance())

    async def work(unit: Unit) -> None:
        if not decided.gone:
            await unit.deliveries.record(claimed, reply, decided, now)
            return
        # The webhook first, as in every change of one.
        before = await unit.webhooks.lock(claimed.organization_id, claimed.webhook_id)
        await unit.deliveries.record(claimed, reply, decided, now)
        if before is None or not before.active or before.url != claimed.url:
            return
        after = msgspec.structs.replace(
            before, active=False, inactive_reason=GONE, updated_at=now, version=before.version + 1
        )
        await unit.webhooks.update(after)
        await unit.deliveries.give_up_pending(claimed.webhook_id, _GONE_ERROR)
        await audit(unit, "webhook.deactivated", SUBSCRIBER, now, before=before, after=after)

    await store.in_transaction(work)
    return decided


async def give_up_unsendable(store: Store) -> None:
    """What waits for webhooks that are not active any more, or not there, becomes dead letters: all that was
    more than the transaction could do which deactivated them."""

    async def work(unit: Unit) -> bool:
        return await unit.deliveries.give_up_unsendable(gone=_GONE_ERROR, deactivated=DEACTIVATED)

    while await store.in_transaction(work):
        pass
