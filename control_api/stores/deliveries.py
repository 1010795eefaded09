"""Deliveries to webhooks in Postgres, within one transaction."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from control_api.domain.deliveries import Delivery, DeliveryState, Outcome, Reply
from control_api.handlers.webhook_ports import Claimed, Sending, Shares
from schemas.ids import new_id
from sql.load import postgres_queries

_queries = postgres_queries("control_deliveries")
_GIVEN_UP_AT_ONCE = 2_000
_MOST_COUNTED = 100_000
_LAST = "ffffffff-ffff-ffff-ffff-ffffffffffff"


class DeliveryStatements:
    """Implements handlers.webhook_ports.DeliveryRows."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def lock_offset(self, partition: int) -> int:
        return int(await _queries.lock_offset(self._connection, partition=partition))

    async def set_offset(self, partition: int, next_offset: int) -> None:
        await _queries.set_offset(self._connection, partition=partition, next_offset=next_offset)

    async def add(self, delivery: Delivery) -> bool:
        status: str = await _queries.add_delivery(
            self._connection,
            id=delivery.id,
            webhook_id=delivery.webhook_id,
            organization_id=delivery.organization_id,
            event_id=delivery.event_id,
            event_type=delivery.event_type,
            subject=delivery.subject,
            payload=delivery.payload,
            now=delivery.created_at,
        )
        return status.endswith(" 1")

    async def claim(
        self, *, now: datetime, lease: datetime, most: int, shares: Shares, sending: Sending
    ) -> list[Claimed]:
        claim = new_id()
        rows = _queries.claim(
            self._connection,
            now=now,
            lease=lease,
            most=most,
            each=shares.webhook,
            each_organization=shares.organization,
            busy_webhooks=list(sending.webhooks),
            busy_counts=list(sending.webhooks.values()),
            busy_organizations=list(sending.organizations),
            organization_counts=list(sending.organizations.values()),
            claim=claim,
        )
        return [
            Claimed(
                id=str(row["id"]),
                claim=claim,
                webhook_id=str(row["webhook_id"]),
                organization_id=str(row["organization_id"]),
                event_id=str(row["event_id"]),
                payload=row["payload"],
                attempts=row["attempts"],
                url=row["url"],
                secret=row["secret"],
                previous_secret=row["previous_secret"],
            )
            async for row in rows
        ]

    async def record(self, claimed: Claimed, reply: Reply, outcome: Outcome, now: datetime) -> bool:
        status: str = await _queries.record(
            self._connection,
            id=claimed.id,
            claim=claimed.claim,
            state=outcome.state.value,
            next_attempt_at=outcome.next_attempt_at,
            response_status=reply.status,
            response=reply.text,
            error=reply.error,
            milliseconds=reply.milliseconds,
            now=now,
        )
        return status.endswith(" 1")

    async def give_up_pending(self, webhook_id: str, error: str) -> None:
        await _queries.give_up_pending(
            self._connection, webhook_id=webhook_id, error=error, most=_GIVEN_UP_AT_ONCE
        )

    async def give_up_unsendable(self, *, gone: str, deactivated: str) -> bool:
        status: str = await _queries.give_up_unsendable(
            self._connection, gone=gone, deactivated=deactivated, most=_GIVEN_UP_AT_ONCE
        )
        return not status.endswith(" 0")

    async def get(self, webhook_id: str, delivery_id: str) -> Delivery | None:
        row = await _queries.get_delivery(self._connection, id=delivery_id, webhook_id=webhook_id)
        return _delivery_from(row) if row else None

    async def page(
        self, webhook_id: str, states: Sequence[str] | None, before: str | None, most: int
    ) -> list[Delivery]:
        asked = {"webhook_id": webhook_id, "before": before or _LAST, "most": most}
        if states is None:
            rows = _queries.list_deliveries(self._connection, **asked)
            return [_delivery_from(row) async for row in rows]
        found: list[Delivery] = []
        for state in dict.fromkeys(states):
            rows = _queries.list_deliveries_in(self._connection, **asked, state=state)
            found += [_delivery_from(row) async for row in rows]
        return sorted(found, key=lambda delivery: delivery.id, reverse=True)[:most]

    async def redeliver(self, delivery_id: str, now: datetime) -> None:
        await _queries.redeliver(self._connection, id=delivery_id, now=now)

    async def redeliver_dead(self, webhook_id: str, now: datetime, most: int) -> int:
        status: str = await _queries.redeliver_dead(
            self._connection, webhook_id=webhook_id, now=now, most=most
        )
        return int(status.rpartition(" ")[2])

    async def forget(self, before: datetime, most: int) -> int:
        status: str = await _queries.forget_deliveries(self._connection, before=before, most=most)
        return int(status.rpartition(" ")[2])

    async def backlog(self) -> tuple[int, datetime | None]:
        row = await _queries.backlog(self._connection, most=_MOST_COUNTED)
        return int(row["pending"]), row["oldest"]


def _delivery_from(row: asyncpg.Record) -> Delivery:
    return Delivery(
        id=str(row["id"]),
        webhook_id=str(row["webhook_id"]),
        organization_id=str(row["organization_id"]),
        event_id=str(row["event_id"]),
        event_type=row["event_type"],
        subject=row["subject"],
        payload=row["payload"],
        state=DeliveryState(row["state"]),
        attempts=row["attempts"],
        next_attempt_at=row["next_attempt_at"],
        last_attempt_at=row["last_attempt_at"],
        response_status=row["response_status"],
        response=row["response"],
        error=row["error"],
        milliseconds=row["milliseconds"],
        created_at=row["created_at"],
        delivered_at=row["delivered_at"],
    )
