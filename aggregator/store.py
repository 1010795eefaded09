"""Stores what was billed: batches become blocks, fixed in the ledger first, inserted as one ClickHouse block.

Billing never waits for this. What does not fit in memory, or was billed by an owner before, is read from the
log again; the rows come out the same, because they follow from the log and the ledger's record alone.
"""

import asyncio
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
from aggregator.domain.rows import BatchRecord, Charged, filled
from aggregator.errors import FencedError, LogUnavailable, StoreError, StoreUnavailable
from aggregator.event_store import EventStore
from aggregator.ledger import Ledger
from aggregator.log_reader import LogReader
from aggregator.postgres import RETRYABLE, Claim
from aggregator.retry import tries
from aggregator.store_limits import RowBudget, StoreLimits
from aggregator.verification import Verification

log = structlog.get_logger(__name__)

_TRANSIENT = (StoreUnavailable, LogUnavailable, *RETRYABLE)
_MAX_BATCHES = 1_000
_MAX_PENDING = 5_000
"""Batches in memory, some minutes of them; while ClickHouse is away for longer, the ledger keeps the rest."""


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
        *,
        history: Sequence[Incarnation] = (),
    ) -> None:
        self._claim = claim
        stretches = lineage(history, claim.incarnation, claim.next_offset)
        self._kept_to = {each.incarnation: each.next_offset for each in stretches}
        self._ledger = ledger
        self._blocks = blocks
        self._events = events
        self._log_reader = log_reader
        self._block_rows = BlockRows(log_reader, self._is_billed_log)
        self._last_billed = (claim.next_offset, claim.last_record_hash)
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
        self._last_billed = (record.next_offset, record.last_record_hash)
        if self._is_behind or len(self._pending) >= _MAX_PENDING:
            self._behind = (self._behind[0] if self._is_behind else record.first_offset, record.next_offset)
        else:
            # Duplicates take room as well; a batch of nothing else has no rows.
            is_kept = record.event_rows and self._rows.take(len(batch.events), batch.size)
            self._pending.append(PendingBatch(record, batch if is_kept else None))
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
        """Looks again at what is stored, until cancelled; FencedError under a new owner."""
        await Verification(
            self._claim, self._blocks, self._events, self._limits, self._storing, self._store_again
        ).run()

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
                        await self._store_again(block)
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
    ) -> tuple[Block, list[Charged]]:
        async for number in tries():
            try:
                rows, lost = await self._block_rows.of(taken, held)
                block = self._block(taken, rows)
                await self._fix(block, losses_of(lost))
            except _TRANSIENT as error:
                self._waiting("fix", number, error)
            else:
                break
        self._next_block += 1
        return block, rows

    async def _store_block(self, taken: Sequence[PendingBatch]) -> None:
        block, rows = await self._fix_block(taken)
        if rows:
            await self._store(block, rows, known=True)
        if taken[0].record.epoch != self._claim.epoch:
            metrics.blocks_recovered.inc()
        metrics.stored_offset.labels(str(block.partition)).set(block.next_offset)

    def _give_back(self, batches: Iterable[PendingBatch]) -> None:
        for pending in batches:
            if pending.batch is not None:
                self._rows.give_back(len(pending.batch.events), pending.batch.size)

    def _take(self) -> list[PendingBatch]:
        taken: list[PendingBatch] = []
        rows = size = 0
        while self._pending and len(taken) < _MAX_BATCHES:
            rows += self._pending[0].record.event_rows
            size += self._pending[0].record.size
            if taken and (rows > self._limits.max_rows or size > self._limits.max_bytes):
                break
            taken.append(self._pending.popleft())
        return taken

    def _block(self, taken: Sequence[PendingBatch], rows: Sequence[Charged]) -> Block:
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

    async def _store(self, block: Block, rows: Sequence[Charged], *, known: bool) -> None:
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
                verdict = await self._events.verify(block)
                if verdict.exact:
                    await self._blocks.mark_stored(block, self._claim.epoch)
                    break
                block = msgspec.structs.replace(block, epoch=self._claim.epoch, attempt=block.attempt + 1)
                await self._insert_again(block, rows, repair=bool(verdict.found))
            except (*_TRANSIENT, StoreError) as error:
                metrics.store_retries.inc()
                self._waiting("insert", number, error)
        metrics.blocks_stored.inc()
        metrics.store_seconds.observe(time.perf_counter() - started)

    async def _insert_again(self, block: Block, rows: Sequence[Charged], *, repair: bool) -> None:
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
        rows, lost = await self._rows_again(block)
        if lost and len(rows) != block.event_rows:
            await self._store_what_is_left(block, rows, losses_of(lost))
        else:
            await self._store(block, rows, known=False)

    async def _store_what_is_left(
        self, block: Block, rows: Sequence[Charged], losses: Sequence[Loss]
    ) -> None:
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

    async def _rows_again(self, block: Block) -> tuple[list[Charged], list[BatchRecord]]:
        """The rows of a block from the log and the ledger, and the batches whose records are gone."""
        records = await self._ledger.batches_between(
            block.partition, block.incarnation, block.first_offset, block.next_offset
        )
        held = None
        if block.incarnation != self._claim.incarnation:
            held = (0, self._kept_to.get(block.incarnation, 0))
        rows, lost = await self._block_rows.of([PendingBatch(record, None) for record in records], held)
        if not lost and len(rows) != block.event_rows:
            raise StoreError(
                f"block {block.block} of partition {block.partition} had {block.event_rows} rows, "
                f"the log and the ledger give {len(rows)}"
            )
        return rows, lost

    async def _is_billed_log(self) -> bool:
        return await self._log_reader.is_billed(self._claim.partition, *self._last_billed)

    def _waiting(self, what: str, number: int, error: BaseException) -> None:
        log.warning(
            "store.waiting",
            step=what,
            partition=self._claim.partition,
            tries=number + 1,
            error=f"{type(error).__name__}: {error}",
        )
