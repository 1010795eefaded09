"""Stores what was billed: batches become blocks, fixed in the ledger first, inserted as one ClickHouse block.

Billing never waits for this. What does not fit in memory, or was billed by an owner before, is read from the
log again; the rows come out the same, because they follow from the log and the ledger's record alone.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import timedelta

import msgspec
import structlog

from aggregator import metrics
from aggregator.block_ledger import BlockLedger
from aggregator.domain.batch import Batch, LogRecord, decode_batch
from aggregator.domain.blocks import Block, position, position_hash
from aggregator.domain.rows import BatchRecord, EventRow, rows_of
from aggregator.errors import FencedError, LogUnavailable, StoreError, StoreUnavailable
from aggregator.event_store import EventStore
from aggregator.ledger import Ledger
from aggregator.log_reader import LogReader
from aggregator.postgres import RETRYABLE, Claim
from aggregator.retry import tries

log = structlog.get_logger(__name__)

_TRANSIENT = (StoreUnavailable, LogUnavailable, *RETRYABLE)
_MAX_BATCHES = 1_000
_MAX_PENDING = 5_000
"""Batches in memory, some minutes of them; while ClickHouse is away for longer, the ledger keeps the rest."""
_VERIFY_EVERY_SECONDS = 5.0
_VERIFY_MOST = 200
_CLOCK_SECONDS = 3
"""ClickHouse tells its start exact to a second or two."""


class RowBudget:
    """How many rows all partitions of this process may keep in memory until they are stored."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0

    def take(self, rows: int) -> bool:
        """Whether `rows` more may be kept."""
        if self._used + rows > self._limit:
            return False
        self._used += rows
        metrics.pending_rows.set(self._used)
        return True

    def give_back(self, rows: int) -> None:
        """Says that `rows` that were taken are not kept any more."""
        self._used -= rows
        metrics.pending_rows.set(self._used)


class PendingBatch(msgspec.Struct, frozen=True):
    """A billed batch that is in no block yet; without its events when those must be read again."""

    record: BatchRecord
    batch: Batch | None


class StoreLimits(msgspec.Struct, frozen=True):
    """How long a block waits for more batches (seconds), how many rows it takes, when it is verified."""

    linger_seconds: float
    max_rows: int
    verify_after_seconds: float


class PartitionStore:
    """Stores the blocks of one claimed partition, in order. `run` ends with FencedError under a new owner."""

    def __init__(
        self,
        claim: Claim,
        ledger: Ledger,
        blocks: BlockLedger,
        events: EventStore,
        log_reader: LogReader,
        limits: StoreLimits,
        rows: RowBudget,
        owner: str,
    ) -> None:
        self._claim = claim
        self._ledger = ledger
        self._blocks = blocks
        self._events = events
        self._log_reader = log_reader
        self._limits = limits
        self._rows = rows
        self._owner = owner
        self._pending: deque[PendingBatch] = deque()
        # What follows on those, billed by an owner before or too much for memory: offsets from, to.
        self._behind = (claim.blocked_offset, claim.next_offset)
        self._next_block = claim.next_block
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._storing = asyncio.Lock()

    def add(self, batch: Batch, record: BatchRecord) -> None:
        """Takes a billed batch, the next one of the partition."""
        if self._is_behind or len(self._pending) >= _MAX_PENDING:
            self._behind = (self._behind[0] if self._is_behind else record.first_offset, record.next_offset)
        else:
            kept = batch if self._rows.take(record.event_rows) else None
            self._pending.append(PendingBatch(record, kept))
        self._idle.clear()
        self._wake.set()

    async def drain(self) -> None:
        """Returns when all that was added is stored."""
        await self._idle.wait()

    def discard(self) -> None:
        """Gives back the memory of what another owner will store."""
        self._give_back(self._pending)
        self._pending.clear()
        self._behind = (0, 0)

    async def run(self) -> None:
        """Recovers what was billed and not stored, then stores what is added, until cancelled."""
        await self._raise_fence()
        await self._recover_blocks()
        while True:
            if not self._pending and not self._is_behind:
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
                await asyncio.sleep(self._limits.linger_seconds)
            async with self._storing:
                await self._store_next()

    async def verify(self) -> None:
        """Looks again, a while after each insert and after each restart of ClickHouse, until cancelled."""
        started_at = None
        while True:
            await asyncio.sleep(min(_VERIFY_EVERY_SECONDS, self._limits.verify_after_seconds))
            try:
                now_started_at = await self._events.started_at()
                restarted = started_at is not None and now_started_at > started_at + _CLOCK_SECONDS
                started_at = now_started_at
                age = timedelta(seconds=0 if restarted else self._limits.verify_after_seconds)
                for block in await self._blocks.blocks_not_verified(self._claim, age, _VERIFY_MOST):
                    async with self._storing:
                        await self._verify(block)
            except _TRANSIENT as error:
                log.warning("store.verify_later", partition=self._claim.partition, error=str(error))

    async def _verify(self, block: Block) -> None:
        if (await self._events.verify(block)).exact:
            metrics.blocks_verified.inc()
            await self._blocks.mark_verified(block)
            return
        log.error("store.block_differs", **msgspec.structs.asdict(block))
        await self._store(block, await self._rows_again(block), known=False)

    async def _raise_fence(self) -> None:
        async for number in tries():
            try:
                await self._events.raise_fence(self._claim.partition, self._claim.epoch, self._owner)
            except _TRANSIENT as error:
                self._waiting("fence", number, error)
            else:
                return

    async def _recover_blocks(self) -> None:
        """Stores the blocks that an owner before had fixed and did not mark as stored."""
        async for number in tries():
            try:
                blocks = await self._blocks.blocks_not_stored(self._claim)
                for block in blocks:
                    log.info("store.recovering", partition=block.partition, block=block.block)
                    async with self._storing:
                        await self._store(block, await self._rows_again(block), known=False)
                    metrics.blocks_recovered.inc()
            except _TRANSIENT as error:
                self._waiting("recover", number, error)
            else:
                return

    @property
    def _is_behind(self) -> bool:
        first_offset, next_offset = self._behind
        return first_offset < next_offset

    async def _read_behind(self) -> None:
        """The next page of what is only in the ledger becomes pending."""
        async for number in tries():
            try:
                records = await self._ledger.batches_between(
                    self._claim.partition, self._claim.incarnation, *self._behind, most=_MAX_BATCHES
                )
            except _TRANSIENT as error:
                self._waiting("read", number, error)
            else:
                break
        first_offset, next_offset = self._behind
        if not records or records[0].first_offset != first_offset:
            raise StoreError(f"partition {self._claim.partition}: the ledger has no batch at {first_offset}")
        self._pending.extend(PendingBatch(record, None) for record in records)
        self._behind = (records[-1].next_offset, next_offset)

    async def _store_next(self) -> None:
        if not self._pending and self._is_behind:
            await self._read_behind()
        taken = self._take()
        if not taken:
            return
        try:
            await self._store_block(taken)
        finally:
            # Also when the partition is lost in between: another owner stores these.
            self._give_back(taken)

    async def _store_block(self, taken: Sequence[PendingBatch]) -> None:
        async for number in tries():
            try:
                rows = await self._rows_of(taken)
                block = self._block(taken, rows)
                await self._fix(block)
            except _TRANSIENT as error:
                self._waiting("fix", number, error)
            else:
                break
        self._next_block += 1
        if rows:
            await self._store(block, rows, known=True)
        if taken[0].record.epoch != self._claim.epoch:
            metrics.blocks_recovered.inc()
        metrics.stored_offset.labels(str(block.partition)).set(block.next_offset)

    def _give_back(self, batches: Iterable[PendingBatch]) -> None:
        for pending in batches:
            if pending.batch is not None:
                self._rows.give_back(pending.record.event_rows)

    def _take(self) -> list[PendingBatch]:
        taken: list[PendingBatch] = []
        rows = 0
        while self._pending and len(taken) < _MAX_BATCHES:
            rows += self._pending[0].record.event_rows
            if taken and rows > self._limits.max_rows:
                break
            taken.append(self._pending.popleft())
        return taken

    def _block(self, taken: Sequence[PendingBatch], rows: Sequence[EventRow]) -> Block:
        first, last = taken[0].record, taken[-1].record
        return Block(
            partition=first.partition,
            incarnation=first.incarnation,
            block=self._next_block,
            first_offset=first.first_offset,
            next_offset=last.next_offset,
            event_rows=len(rows),
            billed=sum(row.billed for row in rows),
            position_hash=position_hash(position(row.log_offset, row.event_index) for row in rows),
            epoch=self._claim.epoch,
            attempt=1,
        )

    async def _fix(self, block: Block) -> None:
        """Fixes the block in the ledger; a lost connection may have fixed it already."""
        try:
            await self._blocks.fix_block(block)
        except FencedError:
            if await self._blocks.find_block(block) != block:
                raise

    async def _store(self, block: Block, rows: Sequence[EventRow], *, known: bool) -> None:
        """Inserts the block until ClickHouse holds exactly it.

        With `known` nothing of it was inserted before, so the first try needs no look at what is there.
        After any other try the block is verified, and mended where it differs: only rows of lower
        (epoch, attempt) are deleted, and the block is inserted again under its own. It counts as verified
        only when `verify` sees it again later: an insert that was given up may still arrive.
        """
        started = time.perf_counter()
        async for number in tries():
            try:
                if known and number == 0:
                    await self._events.insert(block, rows)
                    await self._blocks.mark_stored(block, self._claim.epoch)
                    break
                if (await self._events.verify(block)).exact:
                    await self._blocks.mark_stored(block, self._claim.epoch)
                    break
                block = msgspec.structs.replace(block, epoch=self._claim.epoch, attempt=block.attempt + 1)
                await self._insert_again(block, rows)
            except (*_TRANSIENT, StoreError) as error:
                metrics.store_retries.inc()
                self._waiting("insert", number, error)
        metrics.blocks_stored.inc()
        metrics.store_seconds.observe(time.perf_counter() - started)

    async def _insert_again(self, block: Block, rows: Sequence[EventRow]) -> None:
        """Replaces what lower attempts left; the next look at ClickHouse says whether it is exact now."""
        await self._blocks.new_attempt(block)
        await self._events.repair(block)
        await self._events.insert(block, rows)
        metrics.blocks_repaired.inc()

    async def _rows_again(self, block: Block) -> list[EventRow]:
        """The rows of a block from the log and the ledger."""
        records = await self._ledger.batches_between(
            block.partition, block.incarnation, block.first_offset, block.next_offset
        )
        rows = await self._rows_of([PendingBatch(record, None) for record in records])
        if len(rows) != block.event_rows:
            raise StoreError(
                f"block {block.block} of partition {block.partition} had {block.event_rows} rows, "
                f"the log and the ledger give {len(rows)}"
            )
        return rows

    async def _rows_of(self, taken: Sequence[PendingBatch]) -> list[EventRow]:
        missing = [pending.record for pending in taken if pending.batch is None]
        again = await self._read_again(missing) if missing else {}
        rows: list[EventRow] = []
        for pending in taken:
            batch = pending.batch or again[pending.record.first_offset]
            rows += rows_of(batch, pending.record)
        return rows

    async def _read_again(self, records: Sequence[BatchRecord]) -> dict[int, Batch]:
        """The batches of these records, read from the log, by their first offset."""
        batches: dict[int, Batch] = {}
        waiting = deque(records)
        collected: list[LogRecord] = []
        first, last = records[0], records[-1]
        async for part in self._log_reader.read(first.partition, first.first_offset, last.next_offset):
            for log_record in part:
                if not waiting or log_record.offset < waiting[0].first_offset:
                    continue
                collected.append(log_record)
                if log_record.offset + 1 == waiting[0].next_offset:
                    done = waiting.popleft()
                    batches[done.first_offset] = decode_batch(done.partition, done.incarnation, collected)
                    collected = []
        return batches

    def _waiting(self, what: str, number: int, error: BaseException) -> None:
        log.warning(
            "store.waiting",
            step=what,
            partition=self._claim.partition,
            tries=number + 1,
            error=f"{type(error).__name__}: {error}",
        )
