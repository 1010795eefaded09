"""Bills the records of one partition, in order, each exactly once."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence

import structlog

from aggregator import metrics
from aggregator.dead_letters import DeadLetters
from aggregator.domain.batch import Batch, LogRecord, decode_batch
from aggregator.domain.rows import BatchRecord
from aggregator.errors import FencedError, LogGapError, LogUnavailable
from aggregator.ledger import Ledger
from aggregator.log_reader import LogReader
from aggregator.old_events import OldEvents
from aggregator.postgres import RETRYABLE, Claim
from aggregator.retry import tries
from aggregator.seen_ids import SeenIds, key_of
from aggregator.store import PartitionStore

log = structlog.get_logger(__name__)

_LOOK_EVERY_SECONDS = 10.0


class PartitionSettler:
    """Decode, drop duplicates, bill, hand over to be stored: in this order, for one claimed partition.

    `settle` is given records from any offset at or below the ledger's; those that are billed are skipped, so
    what a consumer delivers again after a rebalance does no harm. A gap is never skipped: LogGapError.
    """

    def __init__(
        self,
        claim: Claim,
        ledger: Ledger,
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
        self._dead_letters = dead_letters
        self._log_reader = log_reader
        self._old_events = old_events
        self._is_leaving = False
        self._last_record_hash = claim.last_record_hash
        self._max_bytes = max_bytes
        self._on_crossing = on_crossing
        self._label = str(claim.partition)
        self._lock = asyncio.Lock()

    async def settle(self, records: Sequence[LogRecord]) -> None:
        """Returns when all records are billed. FencedError when another process owns the partition,
        HandedOver when it is given up while they wait for ClickHouse."""
        async with self._lock:
            todo = [record for record in records if record.offset >= self.next_offset]
            self._require_contiguous(todo)
            for chunk in chunks(todo, self._max_bytes):
                await self._settle(chunk)

    async def quiesce(self) -> None:
        """Returns when no batch is being billed; one that waits for ClickHouse is given up."""
        self._is_leaving = True
        try:
            async with self._lock:
                return
        finally:
            self._is_leaving = False

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
                if await self.is_billed_log():
                    return
                raise LogGapError(
                    f"partition {self.claim.partition}: the log is not the one that was billed to "
                    f"{self.next_offset}"
                )
            except LogUnavailable as error:
                log.warning(
                    "settle.log_unavailable",
                    partition=self.claim.partition,
                    tries=number + 1,
                    error=str(error),
                )

    async def watch_log(self) -> None:
        """Looks at the log's end every few seconds, until cancelled. Kafka's client goes to the beginning of
        a log that was cut without a word, and Faust drops what comes at offsets that it has seen."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
            await self.require_billed_log()

    async def _settle(self, records: Sequence[LogRecord]) -> None:
        batch = decode_batch(self.claim.partition, self.claim.incarnation, records)
        if batch.dead_letters:
            await self._publish_dead_letters(batch)
        keys = [key_of(event.organization_id, event.event_id) for event in batch.events]
        forgotten_before = self.seen.forgotten_before(batch.newest_at)
        old = await self._old_events.counted(batch, forgotten_before, lambda: self._is_leaving)
        duplicates = self.seen.mark(keys, batch.positions, batch.newest_at)
        if old:
            duplicates = sorted(old.union(duplicates))
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
                record, crossings = await self._bill_once(batch, duplicates, again=number > 0)
            except RETRYABLE as error:
                metrics.bill_retries.inc()
                log.warning(
                    "settle.ledger_unavailable",
                    partition=self.claim.partition,
                    tries=number + 1,
                    error=f"{type(error).__name__}: {error}",
                )
            else:
                if crossings:
                    metrics.crossings.inc(crossings)
                self._on_crossing()
                return record
        raise AssertionError("tries() never ends")

    async def _bill_once(
        self, batch: Batch, duplicates: Sequence[int], *, again: bool
    ) -> tuple[BatchRecord, int]:
        """The batch's record and crossings; `again` after a try whose transaction may have been committed
        since it was looked for."""
        try:
            return await self._ledger.bill(self.claim, batch, duplicates)
        except FencedError:
            record = await self._ledger.find_batch(batch, self.claim.epoch) if again else None
            if record is None:
                raise
            return record, 0

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
    """`records` in runs of about `max_bytes`, so that one transaction stays short."""
    start, size = 0, 0
    for index, record in enumerate(records):
        size += len(record.value)
        if size >= max_bytes:
            yield records[start : index + 1]
            start, size = index + 1, 0
    if start < len(records):
        yield records[start:]
