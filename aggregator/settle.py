"""Bills the records of one partition, in order, each exactly once."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import aclosing

import structlog

from aggregator import metrics
from aggregator.dead_letters import DeadLetters
from aggregator.domain.batch import Batch, LogRecord, decode_batch
from aggregator.domain.rows import BatchRecord
from aggregator.errors import FencedError, LogGapError, LogUnavailable
from aggregator.joint_bills import JointBills
from aggregator.ledger import Billed, Due, Ledger
from aggregator.log_reader import LogReader
from aggregator.old_events import OldEvents
from aggregator.postgres import RETRYABLE, Claim
from aggregator.retry import tries
from aggregator.seen_ids import SeenIds, key_of
from aggregator.store import PartitionStore

log = structlog.get_logger(__name__)

_LOOK_EVERY_SECONDS = 10.0
_FEW_RECORDS = 400
_CHUNK_MS = 10 * 60 * 1000


class PartitionSettler:
    """Decode, drop duplicates, bill, hand over to be stored: in this order, for one claimed partition.

    `settle` is given records from any offset at or below the ledger's; those that are billed are skipped, so
    what a consumer delivers again after a rebalance does no harm. A gap is never skipped: LogGapError.

    Records with events that waited long in a spool have to wait for ClickHouse. They are set aside,
    with all that follow, and `bill_aside` reads them again: no other partition waits with them, and nothing
    of them is kept in memory.
    """

    def __init__(
        self,
        claim: Claim,
        ledger: Ledger,
        bills: JointBills,
        seen: SeenIds,
        dead_letters: DeadLetters,
        store: PartitionStore,
        log_reader: LogReader,
        old_events: OldEvents,
        *,
        max_bytes: int,
        on_crossing: Callable[[], None],
    ) -> None:
        self.claim = claim
        self.next_offset = claim.next_offset
        self.seen = seen
        self.store = store
        self._ledger = ledger
        self._bills = bills
        self._dead_letters = dead_letters
        self._log_reader = log_reader
        self._old_events = old_events
        self._aside_to = 0
        self._may_bill_aside = asyncio.Event()
        self._fenced: FencedError | None = None
        self._last_record_hash = claim.last_record_hash
        self._max_bytes = max_bytes
        self._on_crossing = on_crossing
        self._label = str(claim.partition)
        self._lock = asyncio.Lock()

    async def settle(self, records: Sequence[LogRecord]) -> None:
        """Returns when all records are billed or set aside. FencedError when another process owns the
        partition."""
        async with self._lock:
            if self._fenced is not None:
                raise self._fenced
            todo = [record for record in records if record.offset >= self.next_offset]
            if not todo or (not self._is_aside and await self._bill_young(todo)):
                return
            self._aside_to = max(self._aside_to, todo[-1].offset + 1)
            self._show_aside()
            self._may_bill_aside.set()

    async def bill_aside(self) -> None:
        """Bills what is set aside, until cancelled."""
        try:
            while True:
                await self._may_bill_aside.wait()
                for chunk in chunks(await self._next_records(), self._max_bytes):
                    await self._bill_one_aside(self._decoded(chunk))
                if 0 < self._aside_to - self.next_offset <= _FEW_RECORDS:
                    await self._catch_up()
        except FencedError as error:
            self._fenced = error  # told to whoever brings more
            raise
        finally:
            metrics.records_aside.labels(self._label).set(0)

    async def quiesce(self) -> None:
        """Returns when no batch is being billed; what is set aside is left alone until `settle` is called."""
        async with self._lock:
            self._may_bill_aside.clear()

    async def is_billed_log(self) -> bool:
        """Whether the log holds what was billed last. LogUnavailable when Kafka can't be asked."""
        return await self._log_reader.is_billed(
            self.claim.partition, self.next_offset, self._last_record_hash
        )

    async def require_billed_log(self) -> None:
        """Waits until the log could be looked at; LogGapError when it is not the one that was billed: what
        came into another one at offsets that are billed would never be counted. The next claim goes on in it.
        """
        async for number in tries():
            try:
                known = self.claim.partition, self.next_offset, self._last_record_hash
                if not await self._log_reader.is_surely_another(*known):
                    return
                raise LogGapError(
                    f"partition {self.claim.partition}: the log is not the one that was billed to "
                    f"{self.next_offset}"
                )
            except LogUnavailable as error:
                self._log_unavailable(number, error)

    async def watch_log(self) -> None:
        """Looks at the log's end every few seconds, until cancelled. Kafka's client goes to the beginning of
        a log that was cut without a word, and Faust drops what comes at offsets that it has seen."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
            await self.require_billed_log()

    @property
    def _is_aside(self) -> bool:
        return self._aside_to > self.next_offset

    def _show_aside(self) -> None:
        metrics.records_aside.labels(self._label).set(max(0, self._aside_to - self.next_offset))

    async def _bill_young(self, records: Sequence[LogRecord]) -> bool:
        """Bills records up to the first chunk that has to wait for ClickHouse; whether there was none."""
        self._require_contiguous(records)
        for chunk in chunks(records, self._max_bytes):
            batch = self._decoded(chunk)
            if self._old_events.of(batch, self.seen.forgotten_before(batch.newest_at)):
                return False
            await self._settle(batch)
        return True

    async def _bill_one_aside(self, batch: Batch) -> None:
        counted = await self._old_events.counted(batch, self.seen.forgotten_before(batch.newest_at))
        async with self._lock:
            # Not handed over in the meantime, nor a batch before this one.
            if self._may_bill_aside.is_set() and batch.first_offset == self.next_offset:
                await self._settle_aside(batch, counted)

    async def _catch_up(self) -> None:
        """Bills the last few while nothing more can be set aside; else it might never come to an end."""
        async with self._lock:
            try:
                records = await self._page()
            except LogUnavailable:
                return
            for chunk in chunks(records if self._may_bill_aside.is_set() else (), self._max_bytes):
                batch = self._decoded(chunk)
                if self._old_events.of(batch, self.seen.forgotten_before(batch.newest_at)):
                    return
                await self._settle_aside(batch, ())

    async def _settle_aside(self, batch: Batch, counted: Collection[int]) -> None:
        await self._settle(batch, counted)
        self._show_aside()
        if not self._is_aside:
            self._may_bill_aside.clear()

    async def _next_records(self) -> Sequence[LogRecord]:
        """Some hundred of the records that are set aside, the next ones, read again."""
        async for number in tries():
            try:
                return await self._page()
            except LogUnavailable as error:
                self._log_unavailable(number, error)
        raise AssertionError("tries() never ends")

    async def _page(self) -> Sequence[LogRecord]:
        # No longer than for one page: the reader serves one range at a time.
        first, end = self.next_offset, self._aside_to
        async with aclosing(self._log_reader.read(self.claim.partition, first, end)) as pages:
            async for records in pages:
                return records
        return ()

    def _log_unavailable(self, number: int, error: LogUnavailable) -> None:
        log.warning(
            "settle.log_unavailable",
            partition=self.claim.partition,
            tries=number + 1,
            error=str(error),
        )

    def _decoded(self, records: Sequence[LogRecord]) -> Batch:
        return decode_batch(self.claim.partition, self.claim.incarnation, records)

    async def _settle(self, batch: Batch, counted: Collection[int] = ()) -> None:
        """Bills a batch; `counted` are indexes of duplicates that the seen ids don't know."""
        if batch.dead_letters:
            await self._publish_dead_letters(batch)
        keys = [key_of(event.organization_id, event.event_id) for event in batch.events]
        duplicates = self.seen.mark(keys, batch.positions, batch.newest_at)
        if counted:
            duplicates = sorted({*counted, *duplicates})
        started = time.perf_counter()
        record = await self._bill(batch, duplicates)
        self.next_offset = batch.next_offset
        self._last_record_hash = batch.last_record_hash
        self.store.add(batch, record)
        metrics.bill_seconds.observe(time.perf_counter() - started)
        metrics.events_billed.labels(self._label).inc(record.event_rows)
        metrics.duplicates.labels(self._label).inc(len(duplicates))
        metrics.billed_offset.labels(self._label).set(self.next_offset)

    async def _bill(self, batch: Batch, duplicates: Sequence[int]) -> BatchRecord:
        """Tries until the batch is known to be billed. A lost connection leaves the outcome unknown, so each
        further try asks the ledger first."""
        async for number in tries():
            try:
                if number and (record := await self._ledger.find_batch(batch, self.claim.epoch)):
                    return record
                billed = await self._bill_once(batch, duplicates, again=number > 0)
            except RETRYABLE as error:
                metrics.bill_retries.inc()
                log.warning(
                    "settle.ledger_unavailable",
                    partition=self.claim.partition,
                    tries=number + 1,
                    error=f"{type(error).__name__}: {error}",
                )
            else:
                if billed.crossings:
                    metrics.crossings.inc(billed.crossings)
                self._on_crossing()
                return billed.record
        raise AssertionError("tries() never ends")

    async def _bill_once(self, batch: Batch, duplicates: Sequence[int], *, again: bool) -> Billed:
        """`again` after a try whose transaction may have been committed since it was looked for."""
        try:
            return await self._bills.bill(Due(self.claim, batch, duplicates))
        except FencedError:
            record = await self._ledger.find_batch(batch, self.claim.epoch) if again else None
            if record is None:
                raise
            return Billed(record, crossings=0)

    async def _publish_dead_letters(self, batch: Batch) -> None:
        async for number in tries():
            try:
                await self._dead_letters.send(batch.dead_letters)
            except Exception as error:  # noqa: BLE001  whatever Kafka's client raises: nothing is billed before
                log.warning("settle.dead_letters_unsent", tries=number + 1, error=str(error))
            else:
                metrics.dead_letters.labels(self._label).inc(len(batch.dead_letters))
                log.warning(
                    "settle.dead_letters",
                    partition=batch.partition,
                    count=len(batch.dead_letters),
                    first_offset=batch.dead_letters[0].offset,
                    reason=batch.dead_letters[0].reason,
                )
                return

    def _require_contiguous(self, records: Sequence[LogRecord]) -> None:
        expected = self.next_offset
        for record in records:
            if record.offset != expected:
                raise LogGapError(
                    f"partition {self.claim.partition}: the ledger goes on at {expected}, "
                    f"the log at {record.offset}"
                )
            expected += 1


def chunks(records: Sequence[LogRecord], max_bytes: int) -> Iterator[Sequence[LogRecord]]:
    """`records` in runs of about `max_bytes`, so that their part of a transaction stays short, and of few
    minutes: which ids are forgotten follows from a run's newest time, and nothing else may look old beside
    that."""
    start, size = 0, 0
    for index, record in enumerate(records):
        if index > start and abs(record.at - records[start].at) > _CHUNK_MS:
            yield records[start:index]
            start, size = index, 0
        size += len(record.value)
        if size >= max_bytes:
            yield records[start : index + 1]
            start, size = index + 1, 0
    if start < len(records):
        yield records[start:]
