"""Stores what was billed: batches become blocks, fixed in the ledger first, then inserted into ClickHouse.

Billing never waits for this. What does not fit in memory, or was billed by an owner before, is read from the
log again; the rows come out the same, because they follow from the log and the ledger's record alone.
"""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec
import structlog

from aggregator import metrics
from aggregator.block_ledger import BlockLedger
from aggregator.block_rows import BlockRows, PendingBatch
from aggregator.domain.batch import Batch
from aggregator.domain.blocks import Block
from aggregator.domain.lineage import Incarnation, lineage
from aggregator.domain.losses import Loss, lacking, losses_of
from aggregator.domain.rows import BatchRecord, Lines, charged_of, filled, lines_of
from aggregator.errors import FencedError, LedgerGapError, StoreError
from aggregator.event_store import EventStore
from aggregator.joint_inserts import JointInserts
from aggregator.ledger import Ledger
from aggregator.log_reader import LogReader
from aggregator.postgres import Claim
from aggregator.retry import TRANSIENT, tries
from aggregator.store_limits import RowBudget, StoreLimits, moment_after
from aggregator.verification import Verification

log = structlog.get_logger(__name__)

_MAX_BATCHES = 1_000
_MAX_PENDING = 5_000
"""Batches in memory, some minutes of them; while ClickHouse is away for longer, the ledger keeps the rest."""
_ENOUGH_ROWS, _MANY_ROWS = 250, 5_000
"""Rows that are worth an insert, which costs ClickHouse as much for one; and so many that nothing waits."""


class PartitionStore:
    """Stores the blocks of one claimed partition, in order. `run` ends with FencedError under a new owner."""

    def __init__(
        self,
        claim: Claim,
        ledger: Ledger,
        blocks: BlockLedger,
        events: EventStore,
        inserts: JointInserts,
        log_reader: LogReader,
        limits: StoreLimits,
        rows: RowBudget,
        *,
        owner: str,
        history: Sequence[Incarnation] = (),
    ) -> None:
        self._claim = claim
        stretches = lineage(history, claim.incarnation, claim.next_offset)
        self._kept_to = {each.incarnation: each.next_offset for each in stretches}
        self._ledger = ledger
        self._blocks = blocks
        self._events = events
        self._inserts = inserts
        self._log_reader = log_reader
        self._block_rows = BlockRows(log_reader, self._is_billed_log)
        self._last_billed = (claim.next_offset, claim.last_record_hash)
        self._limits = limits
        self._rows = rows
        self._owner = owner
        self._pending: deque[PendingBatch] = deque()
        self._pending_rows = 0
        # What follows on those, billed by an owner before or too much for memory: offsets from, to.
        self._behind = (claim.blocked_offset, claim.next_offset)
        self._next_block = claim.next_block
        self._last_block_at = -math.inf
        self._draining = False
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._storing = asyncio.Lock()

    def add(self, batch: Batch, record: BatchRecord) -> None:
        """Takes a billed batch, the next one of the partition."""
        self._last_billed = (record.next_offset, record.last_record_hash)
        if self._is_behind or len(self._pending) >= _MAX_PENDING:
            self._behind = (self._behind[0] if self._is_behind else record.first_offset, record.next_offset)
        else:
            is_kept = record.event_rows and self._rows.take(record.event_rows, record.size)
            rows = lines_of(batch.partition, charged_of(batch, record)) if is_kept else None
            self._append(PendingBatch(record, rows))
        self._idle.clear()
        self._wake.set()

    async def drain(self) -> None:
        """Returns when all that was added is stored; from now on nothing waits for more to come."""
        self._draining = True
        self._wake.set()
        await self._idle.wait()

    def discard(self) -> None:
        """Gives back the memory of what another owner will store."""
        self._give_back(self._pending)
        self._pending.clear()
        self._pending_rows = 0
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
            await self._wait_for_more()
            self._last_block_at = asyncio.get_running_loop().time()
            async with self._storing:
                await self._store_next()

    async def verify(self) -> None:
        """Looks again at what is stored, until cancelled; FencedError under a new owner."""
        await Verification(
            self._claim, self._blocks, self._events, self._limits, self._storing, self._store_again
        ).run()

    async def _wait_for_more(self) -> None:
        """Returns when a block is due: within a linger after a pause, so that the first events are seen soon,
        and within a linger of the block before while enough rows come; within an interval of it while they
        trickle in; at once when there are many, or when nobody will bring more.

        It is due at moments that all partitions share, so that their blocks become one insert."""
        loop, linger = asyncio.get_running_loop(), self._limits.linger_seconds
        soon = moment_after(self._last_block_at, linger)
        late = max(
            moment_after(loop.time(), linger),
            moment_after(self._last_block_at, self._limits.interval_seconds),
        )
        while not (self._draining or self._is_behind or self._pending_rows >= _MANY_ROWS):
            due = soon if self._pending_rows >= _ENOUGH_ROWS else late
            if due <= loop.time():
                return
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._wake.wait()

    async def _raise_fence(self) -> None:
        async for number in tries():
            try:
                await self._events.raise_fence(self._claim.partition, self._claim.epoch, self._owner)
            except TRANSIENT as error:
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
                        await self._store_again(block)
                    metrics.blocks_recovered.inc()
            except TRANSIENT as error:
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
            except TRANSIENT as error:
                self._waiting("read", number, error)
            else:
                break
        first_offset, next_offset = self._behind
        if not records or records[0].first_offset != first_offset:
            raise LedgerGapError(
                f"partition {self._claim.partition}: the ledger has no batch at {first_offset}"
            )
        for record in records:
            self._append(PendingBatch(record, None))
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

    async def close(self, held: tuple[int, int]) -> None:
        """Fixes all that was billed as blocks, before another incarnation begins; `run` stores them then.

        The log holds the records of batches that lie within `held` (from, to). Not for a store that runs.
        """
        while self._is_behind or self._pending:
            if not self._pending:
                await self._read_behind()
            await self._fix_block(self._take(), held)

    async def _fix_block(
        self, taken: Sequence[PendingBatch], held: tuple[int, int] | None = None
    ) -> tuple[Block, Lines]:
        async for number in tries():
            try:
                rows, lost = await self._block_rows.of(taken, held)
                block = self._block(taken, rows)
                await self._fix(block, losses_of(lost))
            except TRANSIENT as error:
                self._waiting("fix", number, error)
            else:
                break
        self._next_block += 1
        return block, rows

    async def _store_block(self, taken: Sequence[PendingBatch]) -> None:
        block, rows = await self._fix_block(taken)
        if rows.count:
            await self._store(block, rows, known=True)
        if taken[0].record.epoch != self._claim.epoch:
            metrics.blocks_recovered.inc()
        metrics.stored_offset.labels(str(block.partition)).set(block.next_offset)

    def _give_back(self, batches: Iterable[PendingBatch]) -> None:
        for pending in batches:
            if pending.rows is not None:
                self._rows.give_back(pending.record.event_rows, pending.record.size)

    def _append(self, pending: PendingBatch) -> None:
        self._pending.append(pending)
        self._pending_rows += pending.record.event_rows

    def _take(self) -> list[PendingBatch]:
        taken: list[PendingBatch] = []
        rows = size = 0
        while self._pending and len(taken) < _MAX_BATCHES:
            rows += self._pending[0].record.event_rows
            size += self._pending[0].record.size
            if taken and (rows > self._limits.max_rows or size > self._limits.max_bytes):
                break
            taken.append(self._pending.popleft())
            self._pending_rows -= taken[-1].record.event_rows
        return taken

    def _block(self, taken: Sequence[PendingBatch], rows: Lines) -> Block:
        first, last = taken[0].record, taken[-1].record
        block = Block(
            partition=first.partition,
            incarnation=first.incarnation,
            block=self._next_block,
            first_offset=first.first_offset,
            next_offset=last.next_offset,
            event_rows=0,
            billed=0,
            position_hash=0,
            epoch=self._claim.epoch,
            attempt=1,
        )
        return filled(block, rows)

    async def _fix(self, block: Block, losses: Sequence[Loss]) -> None:
        """Fixes the block in the ledger; a lost connection may have fixed it already."""
        self._tell(block, losses)
        try:
            await self._blocks.fix_block(block, losses)
        except FencedError:
            if await self._blocks.find_block(block) != block:
                raise

    async def _store(self, block: Block, rows: Lines, *, known: bool) -> None:
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
                    await self._inserts.insert(block, rows)
                    await self._blocks.mark_stored(block, self._claim.epoch)
                    break
                verdict = await self._events.verify(block)
                if verdict.exact:
                    await self._blocks.mark_stored(block, self._claim.epoch)
                    break
                block = msgspec.structs.replace(block, epoch=self._claim.epoch, attempt=block.attempt + 1)
                await self._insert_again(block, rows, repair=bool(verdict.found))
            except TRANSIENT as error:
                metrics.store_retries.inc()
                self._waiting("insert", number, error)
        metrics.blocks_stored.inc()
        metrics.store_seconds.observe(time.perf_counter() - started)

    async def _insert_again(self, block: Block, rows: Lines, *, repair: bool) -> None:
        """Replaces what lower attempts left; the next look at ClickHouse says whether it is exact now.

        Where they left nothing, nothing is deleted: that looks through all of a month.
        """
        await self._blocks.new_attempt(block)
        if repair:
            await self._events.repair(block, rows)
        await self._events.insert(block, rows)
        metrics.blocks_repaired.inc()

    async def _store_again(self, block: Block) -> None:
        """Stores a block of which ClickHouse may hold something, from the log and the ledger."""
        rows, losses = await self._rows_again(block)
        if losses:
            await self._store_what_is_left(block, rows, losses)
        else:
            await self._store(block, rows, known=False)

    async def _store_what_is_left(self, block: Block, rows: Lines, losses: Sequence[Loss]) -> None:
        """Makes of the block what can still be had of it, once: what ClickHouse holds, be it less; where it
        holds nothing, what the log still gives."""
        verdict = await self._events.verify(block)
        if verdict.exact:
            await self._blocks.mark_stored(block, self._claim.epoch)
            return
        if verdict.found:
            left = verdict.of(block)
            losses = lacking(block, left)
        else:
            left = filled(block, rows)
        self._tell(block, losses)
        await self._blocks.amend(left, block, losses, self._claim.epoch)
        if verdict.found:
            await self._blocks.mark_stored(left, self._claim.epoch)
        else:
            await self._store(left, rows, known=False)

    def _tell(self, block: Block, losses: Sequence[Loss]) -> None:
        for loss in losses:
            metrics.rows_lost.labels(str(block.partition)).inc(max(loss.event_rows, 0))
            log.error(
                "store.rows_lost",
                partition=block.partition,
                incarnation=block.incarnation,
                block=block.block,
                **msgspec.structs.asdict(loss),
            )

    async def _rows_again(self, block: Block) -> tuple[Lines, Sequence[Loss]]:
        """The rows of a block from the log and the ledger, and what neither has any more."""
        records = await self._ledger.batches_between(
            block.partition, block.incarnation, block.first_offset, block.next_offset
        )
        held = None
        if block.incarnation != self._claim.incarnation:
            held = (0, self._kept_to.get(block.incarnation, 0))
        rows, lost = await self._block_rows.of([PendingBatch(record, None) for record in records], held)
        if rows.count == block.event_rows:
            return rows, ()
        if sum(record.next_offset - record.first_offset for record in records) < block.offsets:
            # Batches are dropped with the day of their billing, and the first block of a day has some of the
            # day before.
            return rows, lacking(block, filled(block, rows))
        if not lost:
            raise LedgerGapError(
                f"block {block.block} of partition {block.partition} had {block.event_rows} rows, "
                f"the log and the ledger give {rows.count}"
            )
        return rows, losses_of(lost)

    async def _is_billed_log(self) -> bool:
        return await self._log_reader.is_billed(self._claim.partition, *self._last_billed)

    def _waiting(self, what: str, number: int, error: BaseException) -> None:
        tell = log.error if isinstance(error, StoreError) else log.warning
        tell(
            "store.waiting",
            step=what,
            partition=self._claim.partition,
            tries=number + 1,
            error=f"{type(error).__name__}: {error}",
        )
