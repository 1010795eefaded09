"""What the compacted topics must hold, from Postgres: the truths of the read-back (sql/readback.py)."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import msgspec

from control_api.domain.keys import snapshot_of
from control_api.domain.snapshot import millis, state_of
from control_api.stores.rows import campaign_from, key_from
from schemas import access_keys, budget_gates, campaign_state
from schemas.budget_gates import BudgetGate, Coordinates
from schemas.ids import canonical_uuid
from schemas.reasons import Threshold
from sql.load import postgres_queries
from sql.readback import Stand

_sql = postgres_queries("control_readback")

TOMBSTONE_AFTER = timedelta(days=30)
"""So long the topic holds the value that says "gone" or "revoked": whoever was away for less learns of it."""

_BEFORE_ALL_IDS = "00000000-0000-0000-0000-000000000000"


class CampaignStates:
    """`campaign-state`: the snapshot of each campaign."""

    topic = campaign_state.TOPIC

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock

    async def page(self, connection: asyncpg.Connection, after: str, most: int) -> list[Stand]:
        return await _stands(
            _sql.campaign_state_page(
                connection, after=after or _BEFORE_ALL_IDS, most=most, gone_before=self._gone_before()
            )
        )

    async def stands(self, connection: asyncpg.Connection, keys: Sequence[str]) -> list[Stand]:
        return await _stands(
            _sql.campaign_states_of(connection, keys=_uuids(keys), gone_before=self._gone_before())
        )

    async def publish_again(self, connection: asyncpg.Connection, stands: Sequence[Stand]) -> None:
        rows = _sql.share_campaigns(connection, keys=[stand.key for stand in stands])
        values = {str(row["id"]): msgspec.json.encode(state_of(campaign_from(row))) async for row in rows}
        await _add_to_control_outbox(connection, self.topic, stands, values)

    async def waiting(self, connection: asyncpg.Connection, most: int) -> int:
        return int(await _sql.control_outbox_size(connection, most=most))

    def _gone_before(self) -> datetime:
        return self._clock() - TOMBSTONE_AFTER


class AccessKeys:
    """`access-keys`: the snapshot of each key, by its hash."""

    topic = access_keys.TOPIC

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock

    async def page(self, connection: asyncpg.Connection, after: str, most: int) -> list[Stand]:
        return await _stands(
            _sql.access_key_page(connection, after=after, most=most, gone_before=self._gone_before())
        )

    async def stands(self, connection: asyncpg.Connection, keys: Sequence[str]) -> list[Stand]:
        found = _sql.access_keys_of(connection, keys=_texts(keys), gone_before=self._gone_before())
        return await _stands(found)

    async def publish_again(self, connection: asyncpg.Connection, stands: Sequence[Stand]) -> None:
        rows = _sql.share_keys(connection, keys=[stand.key for stand in stands])
        values = {row["key_hash"]: msgspec.json.encode(snapshot_of(key_from(row))) async for row in rows}
        await _add_to_control_outbox(connection, self.topic, stands, values)

    async def waiting(self, connection: asyncpg.Connection, most: int) -> int:
        return int(await _sql.control_outbox_size(connection, most=most))

    def _gone_before(self) -> datetime:
        return self._clock() - TOMBSTONE_AFTER


class BudgetGates:
    """`budget-gates`: what each campaign's spend has crossed, from the ledger, through the ledger's relay, as
    the first time. Never a tombstone, since an account stays for good."""

    topic = budget_gates.TOPIC

    async def page(self, connection: asyncpg.Connection, after: str, most: int) -> list[Stand]:
        return await _stands(_sql.budget_gate_page(connection, after=after or _BEFORE_ALL_IDS, most=most))

    async def stands(self, connection: asyncpg.Connection, keys: Sequence[str]) -> list[Stand]:
        return await _stands(_sql.budget_gates_of(connection, keys=_uuids(keys)))

    async def publish_again(self, connection: asyncpg.Connection, stands: Sequence[Stand]) -> None:
        keys = [stand.key for stand in stands]
        await _sql.share_accounts(connection, keys=keys)
        gates = [_gate(row) async for row in _sql.gates_of(connection, keys=keys)]
        await _sql.add_to_ledger_outbox(
            connection,
            topic=self.topic,
            keys=[gate.campaign_id.encode() for gate in gates],
            values=[msgspec.json.encode(gate) for gate in gates],
        )
        await _sql.wake_ledger_relay(connection)

    async def waiting(self, connection: asyncpg.Connection, most: int) -> int:
        return int(await _sql.ledger_outbox_size(connection, most=most))


async def _add_to_control_outbox(
    connection: asyncpg.Connection, topic: str, stands: Sequence[Stand], values: Mapping[str, bytes]
) -> None:
    """The values of these keys, or tombstones where they have been gone for long."""
    wanted = [stand for stand in stands if stand.key in values]
    await _sql.add_to_control_outbox(
        connection,
        topic=topic,
        keys=[stand.key.encode() for stand in wanted],
        values=[None if stand.version is None else values[stand.key] for stand in wanted],
    )


async def _stands(rows: AsyncIterator[asyncpg.Record]) -> list[Stand]:
    return [Stand(row["key"], row["version"], row["pending"]) async for row in rows]


def _uuids(keys: Sequence[str]) -> list[str]:
    """Those that can be ids at all: anybody with access to Kafka may have written anything."""
    return [key for key in keys if canonical_uuid(key) == key]


def _texts(keys: Sequence[str]) -> list[str]:
    return [key for key in keys if "\0" not in key]


def _gate(row: Mapping[str, Any]) -> BudgetGate:
    crossed = {Threshold(threshold) for threshold in row["thresholds"]}
    return BudgetGate(
        campaign_id=str(row["campaign_id"]),
        organization_id=str(row["organization_id"]),
        version=row["gate_version"],
        budget_version=row["budget_version"],
        thresholds=tuple(threshold for threshold in Threshold if threshold in crossed),
        billed=row["billed"],
        at=millis(row["received_at"]),
        cause=Coordinates(row["incarnation"], row["partition"], row["log_offset"], row["event_index"]),
    )
