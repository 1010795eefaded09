"""The ledger in Postgres: offsets, money and what is stored, each change in one transaction.

Every connection carries short timeouts, so that a process that is stopped in the middle of a transaction
can't hold the others up: Postgres ends it, and the compare-and-set refuses it when it wakes.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import msgspec

from aggregator.domain.announcements import activity_of, gates_of
from aggregator.domain.batch import Batch
from aggregator.domain.billing import Account, Bill, Delta, Opening, bill, tally
from aggregator.domain.blocks import Block, position
from aggregator.domain.crossing import Crossing
from aggregator.domain.rows import BatchRecord
from aggregator.errors import FencedError
from schemas import budget_gates, campaign_activity
from schemas.events import INDEX_BITS
from schemas.reasons import Threshold
from sql.load import postgres_queries

RETRYABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.exceptions.SerializationError,
    asyncpg.exceptions.DeadlockDetectedError,
    asyncpg.exceptions.LockNotAvailableError,
    asyncpg.exceptions.QueryCanceledError,
    asyncpg.exceptions.IdleInTransactionSessionTimeoutError,
    asyncpg.exceptions.TransactionTimeoutError,
    asyncpg.exceptions.ReadOnlySQLTransactionError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.exceptions.CannotConnectNowError,
)
"""Errors after which the ledger is read again and the same is tried once more."""

_SESSION = {
    "application_name": "flightline-aggregator",
    "idle_in_transaction_session_timeout": "2s",
    "transaction_timeout": "5s",
    "lock_timeout": "3s",
    "timezone": "UTC",
}
_COMMAND_SECONDS = 10
_WHOLE_RECORD_INDEX = (1 << INDEX_BITS) - 1


class Claim(msgspec.Struct, frozen=True):
    """A partition as its owner found it in the ledger."""

    partition: int
    incarnation: int
    epoch: int
    next_offset: int
    blocked_offset: int
    next_block: int
    last_record_hash: bytes | None


async def connect_pool(dsn: str, size: int) -> asyncpg.Pool:
    """A pool whose sessions carry the ledger's timeouts. Opens connections when they are needed first."""
    return await asyncpg.create_pool(
        dsn, min_size=0, max_size=size, command_timeout=_COMMAND_SECONDS, server_settings=_SESSION
    )


class Ledger:
    """The ledger's transactions. All raise what RETRYABLE lists when Postgres is away or busy."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._sql = postgres_queries("ledger")

    async def claim(self, partition: int, topic_id: str, owner: str) -> Claim:
        """Makes `owner` the owner of the partition; whoever was before is fenced from now on."""
        async with self._pool.acquire() as connection:
            row = await self._sql.claim_partition(
                connection, partition=partition, topic_id=topic_id, owner=owner
            )
        return Claim(**dict(row))

    async def owns(self, claim: Claim) -> bool:
        """Whether nobody has claimed the partition since."""
        async with self._pool.acquire() as connection:
            return bool(
                await self._sql.owned_partition(
                    connection, partition=claim.partition, incarnation=claim.incarnation, epoch=claim.epoch
                )
            )

    async def bill(self, claim: Claim, batch: Batch, duplicates: Sequence[int]) -> tuple[BatchRecord, int]:
        """Bills a batch in one transaction; returns its record and the number of crossings.

        `duplicates` are indexes into the batch's events. FencedError when the partition has another owner or
        is not at `batch.first_offset`. When the connection breaks the outcome is unknown: ask `find_batch`.
        """
        deltas = tally(batch.events, duplicates)
        async with self._pool.acquire() as connection, connection.transaction():
            await self._advance(connection, claim, batch)
            accounts = await self._lock_accounts(connection, deltas)
            crossed = await self._crossed(connection, accounts)
            outcome = bill(
                batch.events,
                batch.positions,
                duplicates,
                deltas,
                accounts,
                crossed,
                partition=batch.partition,
                incarnation=batch.incarnation,
            )
            record = _record(claim, batch, duplicates, outcome)
            await self._save(connection, outcome, record)
            await self._announce(connection, batch, outcome, accounts, crossed)
        return record, len(outcome.crossings)

    async def find_batch(self, batch: Batch, epoch: int) -> BatchRecord | None:
        """The batch's record if its transaction was committed by this epoch."""
        records = await self.batches_between(
            batch.partition, batch.incarnation, batch.first_offset, batch.next_offset
        )
        matching = [r for r in records if r.next_offset == batch.next_offset and r.epoch == epoch]
        return matching[0] if matching else None

    async def batches_between(
        self, partition: int, incarnation: int, first_offset: int, next_offset: int, most: int | None = None
    ) -> list[BatchRecord]:
        """The records of the batches that begin in the range, in order; the first `most` of them."""
        async with self._pool.acquire() as connection:
            rows = await _fetch(
                self._sql.batches_between(
                    connection,
                    partition=partition,
                    incarnation=incarnation,
                    first_offset=first_offset,
                    next_offset=next_offset,
                    most=most,
                )
            )
        return [
            BatchRecord(
                **{**dict(row), "openings": msgspec.json.decode(row["openings"], type=dict[str, Opening])}
            )
            for row in rows
        ]

    async def duplicates_from(self, partition: int, incarnation: int, first_offset: int) -> set[int]:
        """Positions at or above an offset that were not counted because their ids had been counted."""
        async with self._pool.acquire() as connection:
            rows = await _fetch(
                self._sql.duplicates_between(
                    connection, partition=partition, incarnation=incarnation, first_offset=first_offset
                )
            )
        return {row["position"] for row in rows}

    async def fix_block(self, block: Block) -> None:
        """Fixes which batches a block is made of; FencedError when another owner went on."""
        async with self._pool.acquire() as connection, connection.transaction():
            changed = await self._sql.fix_blocks_end(
                connection,
                partition=block.partition,
                incarnation=block.incarnation,
                epoch=block.epoch,
                first_offset=block.first_offset,
                next_offset=block.next_offset,
                block=block.block,
            )
            _require_owner(changed, block.partition, block.epoch)
            await self._sql.add_block(connection, **msgspec.structs.asdict(block))

    async def new_attempt(self, block: Block) -> None:
        """Says that `block` is about to be inserted as its (epoch, attempt); FencedError for an old owner."""
        async with self._pool.acquire() as connection:
            changed = await self._sql.new_attempt(
                connection,
                partition=block.partition,
                incarnation=block.incarnation,
                block=block.block,
                epoch=block.epoch,
                attempt=block.attempt,
            )
        _require_owner(changed, block.partition, block.epoch)

    async def mark_stored(self, block: Block, owner_epoch: int) -> None:
        """Says that ClickHouse has the block; it is verified a while later (`mark_verified`).

        FencedError when `owner_epoch` does not own the partition any more.
        """
        async with self._pool.acquire() as connection:
            changed = await self._sql.mark_stored(
                connection,
                partition=block.partition,
                incarnation=block.incarnation,
                block=block.block,
                owner_epoch=owner_epoch,
            )
        _require_owner(changed, block.partition, owner_epoch)

    async def find_block(self, block: Block) -> Block | None:
        """The block as the ledger has it, if it has been fixed."""
        async with self._pool.acquire() as connection:
            row = await self._sql.find_block(
                connection, partition=block.partition, incarnation=block.incarnation, block=block.block
            )
        return Block(**dict(row)) if row else None

    async def mark_verified(self, block: Block) -> None:
        """Says that ClickHouse was seen to hold exactly the block."""
        async with self._pool.acquire() as connection:
            await self._sql.mark_verified(
                connection, partition=block.partition, incarnation=block.incarnation, block=block.block
            )

    async def blocks_not_stored(self, claim: Claim) -> list[Block]:
        """Blocks that were fixed and are not known to be in ClickHouse, in order."""
        async with self._pool.acquire() as connection:
            rows = await _fetch(
                self._sql.blocks_not_stored(
                    connection, partition=claim.partition, incarnation=claim.incarnation
                )
            )
        return [Block(**dict(row)) for row in rows]

    async def blocks_not_verified(self, claim: Claim, age: timedelta, most: int) -> list[Block]:
        """At most `most` blocks that were stored at least `age` ago and not verified since."""
        async with self._pool.acquire() as connection:
            rows = await _fetch(
                self._sql.blocks_not_verified(
                    connection,
                    partition=claim.partition,
                    incarnation=claim.incarnation,
                    age_seconds=age.total_seconds(),
                    most=most,
                )
            )
        return [Block(**dict(row)) for row in rows]

    async def create_day(self, day: date) -> None:
        """Makes the tables' partitions of one day (UTC), if they are not there."""
        async with self._pool.acquire() as connection:
            await self._sql.create_day(connection, day=day)

    async def _advance(self, connection: Any, claim: Claim, batch: Batch) -> None:
        changed = await self._sql.advance_partition(
            connection,
            partition=batch.partition,
            incarnation=batch.incarnation,
            epoch=claim.epoch,
            first_offset=batch.first_offset,
            next_offset=batch.next_offset,
            last_record_hash=batch.last_record_hash,
        )
        _require_owner(changed, batch.partition, claim.epoch)

    async def _lock_accounts(self, connection: Any, deltas: Mapping[str, Delta]) -> dict[str, Account]:
        if not deltas:
            return {}
        rows = await _fetch(self._sql.lock_accounts(connection, campaign_ids=list(deltas)))
        if len(rows) < len(deltas):
            known = {str(row["campaign_id"]) for row in rows}
            unknown = [delta for campaign_id, delta in sorted(deltas.items()) if campaign_id not in known]
            await self._sql.add_unknown_accounts(
                connection,
                campaign_ids=[delta.campaign_id for delta in unknown],
                organization_ids=[delta.organization_id for delta in unknown],
                currencies=[delta.currency for delta in unknown],
            )
            rows = await _fetch(self._sql.lock_accounts(connection, campaign_ids=list(deltas)))
        accounts = (_account(row) for row in rows)
        return {account.campaign_id: account for account in accounts}

    async def _crossed(
        self, connection: Any, accounts: Mapping[str, Account]
    ) -> dict[str, frozenset[Threshold]]:
        """What was crossed before. A second statement, so that it sees what was committed while it waited
        for the accounts' locks."""
        limited = [
            account.campaign_id
            for account in accounts.values()
            if account.budget is not None or account.max_impressions is not None
        ]
        if not limited:
            return {}
        crossed: dict[str, set[Threshold]] = {}
        async for row in self._sql.crossings_of(connection, campaign_ids=limited):
            crossed.setdefault(str(row["campaign_id"]), set()).add(Threshold(row["threshold"]))
        return {campaign_id: frozenset(thresholds) for campaign_id, thresholds in crossed.items()}

    async def _save(self, connection: Any, outcome: Bill, record: BatchRecord) -> None:
        deltas = list(outcome.deltas.values())
        if deltas:
            crossing = {c.campaign_id for c in outcome.crossings}
            await self._sql.add_to_accounts(connection, **_columns(deltas, crossing))
        if unbilled := [(d.campaign_id, reason, n) for d in deltas for reason, n in d.unbilled.items()]:
            ids, reasons, counts = zip(*sorted(unbilled), strict=True)
            await self._sql.add_unbilled(connection, campaign_ids=ids, reasons=reasons, events=counts)
        if outcome.crossings:
            await self._sql.add_crossings(connection, **_crossing_columns(outcome.crossings))
        await self._sql.add_batch(
            connection,
            **{
                **msgspec.structs.asdict(record),
                "openings": msgspec.json.encode(record.openings).decode(),
            },
        )

    async def _announce(
        self,
        connection: Any,
        batch: Batch,
        outcome: Bill,
        accounts: Mapping[str, Account],
        crossed: Mapping[str, frozenset[Threshold]],
    ) -> None:
        """Gates and the batch's activity go to the outbox; gates first, because doors wait for them."""
        gates = gates_of(outcome.crossings, accounts, crossed)
        activities = activity_of(batch, outcome.deltas)
        await self._sql.add_to_outbox(
            connection,
            topics=[*(budget_gates.TOPIC for _ in gates), *(campaign_activity.TOPIC for _ in activities)],
            keys=[
                *(gate.campaign_id.encode() for gate in gates),
                *(str(batch.partition).encode() for _ in activities),
            ],
            values=[msgspec.json.encode(value) for value in (*gates, *activities)],
            partitions=[-1] * (len(gates) + len(activities)),
        )
        await self._sql.notify_outbox(connection)


async def _fetch(rows: AsyncIterator[asyncpg.Record]) -> list[asyncpg.Record]:
    """All rows of a query; aiosql gives them one by one."""
    return [row async for row in rows]


def _require_owner(changed: str, partition: int, epoch: int) -> None:
    """asyncpg answers with the command's tag, such as `UPDATE 1`."""
    if changed.rpartition(" ")[2] != "1":
        raise FencedError(f"partition {partition} has gone on without epoch {epoch}")


def _record(claim: Claim, batch: Batch, duplicates: Sequence[int], outcome: Bill) -> BatchRecord:
    return BatchRecord(
        partition=batch.partition,
        incarnation=batch.incarnation,
        first_offset=batch.first_offset,
        next_offset=batch.next_offset,
        epoch=claim.epoch,
        event_rows=len(batch.events) - len(duplicates),
        billed=sum(delta.billed for delta in outcome.deltas.values()),
        duplicates=[batch.positions[index] for index in duplicates],
        dead_letters=[
            position(letter.offset, _WHOLE_RECORD_INDEX if letter.index < 0 else letter.index)
            for letter in batch.dead_letters
        ],
        openings=outcome.openings,
    )


def _account(row: asyncpg.Record) -> Account:
    values = dict(row)
    values["campaign_id"] = str(values["campaign_id"])
    values["organization_id"] = str(values["organization_id"])
    return Account(**values)


_DELTA_COLUMNS = (
    "impressions",
    "clicks",
    "conversions",
    "bounces",
    "unsubscribes",
    "billable_impressions",
    "billed",
    "overdelivery",
    "revenue",
    "unverified_revenue",
    "invalid_impressions",
    "invalid_clicks",
    "invalid_conversions",
    "duplicates",
    "flat_billed",
)


def _columns(deltas: Sequence[Delta], crossing: set[str]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        name: [getattr(delta, name) for delta in deltas] for name in _DELTA_COLUMNS
    }
    columns["campaign_ids"] = [delta.campaign_id for delta in deltas]
    columns["gates"] = [int(delta.campaign_id in crossing) for delta in deltas]
    columns["last_received_at"] = [
        _timestamp(delta.last_received_at) if delta.last_received_at else None for delta in deltas
    ]
    return columns


def _crossing_columns(crossings: Sequence[Crossing]) -> dict[str, list[Any]]:
    return {
        "campaign_ids": [c.campaign_id for c in crossings],
        "budget_versions": [c.budget_version for c in crossings],
        "thresholds": [c.threshold.value for c in crossings],
        "billed": [c.billed for c in crossings],
        "received_at": [_timestamp(c.received_at) for c in crossings],
        "incarnations": [c.cause.incarnation for c in crossings],
        "partitions": [c.cause.partition for c in crossings],
        "log_offsets": [c.cause.offset for c in crossings],
        "event_indexes": [c.cause.index for c in crossings],
    }


def _timestamp(epoch_ms: int) -> datetime:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC)
