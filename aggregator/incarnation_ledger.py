"""The ledger's record of incarnations: which log was billed, and what was lost with one that is gone."""

from typing import Any

import asyncpg
import msgspec

from aggregator.domain.lineage import Incarnation
from aggregator.domain.losses import Loss
from aggregator.postgres import Claim, fetch, not_the_owner
from sql.load import postgres_queries

_PAGE = 20_000
"""Batches that are summed up at a time: well within the ledger's timeouts."""


class Landmark(msgspec.Struct, frozen=True):
    """The end of a batch, and the hash of its last record."""

    next_offset: int
    last_record_hash: bytes


class Beginning(msgspec.Struct, frozen=True):
    """Where a new incarnation begins, on which one's log, and what the log holds (`log_end` exclusive)."""

    base: int | None
    first_offset: int
    last_record_hash: bytes | None
    log_first: int
    log_end: int


class IncarnationLedger:
    """All methods raise what postgres.RETRYABLE lists when Postgres is away or busy."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._sql = postgres_queries("incarnations")

    async def history(self, partition: int) -> list[Incarnation]:
        """The partition's incarnations after the first one, in their order."""
        async with self._pool.acquire() as connection:
            rows = await fetch(self._sql.history(connection, partition=partition))
        return [Incarnation(**dict(row)) for row in rows]

    async def last_landmark(
        self, partition: int, incarnation: int, first_offset: int, next_offset: int
    ) -> Landmark | None:
        """The end of the last batch that lies in the range as a whole."""
        return await self._landmark(
            self._sql.last_batch_within, partition, incarnation, first_offset, next_offset
        )

    async def first_landmark(
        self, partition: int, incarnation: int, first_offset: int, next_offset: int
    ) -> Landmark | None:
        """The end of the first batch that lies in the range as a whole."""
        return await self._landmark(
            self._sql.first_batch_within, partition, incarnation, first_offset, next_offset
        )

    async def _landmark(
        self, query: Any, partition: int, incarnation: int, first_offset: int, next_offset: int
    ) -> Landmark | None:
        async with self._pool.acquire() as connection:
            row = await query(
                connection,
                partition=partition,
                incarnation=incarnation,
                first_offset=first_offset,
                next_offset=next_offset,
            )
        return Landmark(**dict(row)) if row else None

    async def begin(self, claim: Claim, beginning: Beginning, lost_from: int) -> tuple[Claim, Loss]:
        """Begins the next incarnation; returns the claim on it, and what was billed of the one before from
        `lost_from` on: it is in the log no more.

        FencedError when the partition is not as claimed, or when something of it stands in no block yet.
        """
        former = {"partition": claim.partition, "incarnation": claim.incarnation}
        # Before the transaction, because it may take long; nobody else bills the partition meanwhile.
        lost = await self._billed_from(former, lost_from)
        async with self._pool.acquire() as connection, connection.transaction():
            row = await self._sql.advance_incarnation(
                connection,
                **former,
                epoch=claim.epoch,
                next_offset=claim.next_offset,
                first_offset=beginning.first_offset,
                last_record_hash=beginning.last_record_hash,
            )
            if not row:
                raise not_the_owner(claim.partition, claim.epoch)
            await self._sql.add_incarnation(
                connection,
                partition=claim.partition,
                incarnation=claim.incarnation + 1,
                base=beginning.base,
                first_offset=beginning.first_offset,
                former_next_offset=claim.next_offset,
                log_first=beginning.log_first,
                log_end=beginning.log_end,
                lost_rows=lost["event_rows"],
                lost_billed=lost["billed"],
            )
        return Claim(**dict(row)), Loss(lost_from, claim.next_offset, **lost)

    async def _billed_from(self, former: dict[str, int], first_offset: int) -> dict[str, int]:
        billed = {"event_rows": 0, "billed": 0}
        at: int | None = first_offset
        while at is not None:
            async with self._pool.acquire() as connection:
                page = await self._sql.billed_from(connection, **former, first_offset=at, most=_PAGE)
            billed = {name: sum_ + page[name] for name, sum_ in billed.items()}
            at = page["next_offset"]
        return billed
