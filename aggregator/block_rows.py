"""The rows of billed batches: from memory, or from the log once more, while it is the one that was billed."""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog

from aggregator.domain.batch import Batch, LogRecord, decode_batch
from aggregator.domain.rows import BatchRecord, Lines, charged_of, joined, lines_of
from aggregator.errors import LogGapError
from aggregator.log_reader import LogReader

log = structlog.get_logger(__name__)


class PendingBatch(msgspec.Struct, frozen=True):
    """A billed batch that is in no block yet; without its rows when its records must be read again."""

    record: BatchRecord
    rows: Lines | None


class BlockRows:
    """Computes rows. The log must hold what was billed last; what it lacks then is gone for good.

    `is_billed_log` tells whether it does. Where it does not, LogGapError: the partition is to be claimed
    anew, and nothing is given up before that.
    """

    def __init__(self, log_reader: LogReader, is_billed_log: Callable[[], Awaitable[bool]]) -> None:
        self._log_reader = log_reader
        self._is_billed_log = is_billed_log

    async def of(
        self, taken: Sequence[PendingBatch], held: tuple[int, int] | None = None
    ) -> tuple[Lines, list[BatchRecord]]:
        """The rows of these batches, and the batches whose records are gone. `held`: from and to where the
        log can hold them, when that is known before."""
        with_rows = [pending for pending in taken if pending.record.event_rows]
        missing = [pending.record for pending in with_rows if pending.rows is None]
        first_offset, next_offset = held or (0, missing[-1].next_offset if missing else 0)
        there = [r for r in missing if first_offset <= r.first_offset and r.next_offset <= next_offset]
        again = await self._read(there) if there else {}
        rows: list[Lines] = []
        lost: list[BatchRecord] = []
        for pending in with_rows:
            if pending.rows is not None:
                rows.append(pending.rows)
            elif batch := again.get(pending.record.first_offset):
                rows.append(lines_of(batch.partition, charged_of(batch, pending.record)))
            else:
                lost.append(pending.record)
        return joined(rows), lost

    async def _read(self, records: Sequence[BatchRecord]) -> dict[int, Batch]:
        try:
            return await self._read_all(records)
        except LogGapError:
            if not await self._is_billed_log():
                raise
        found: dict[int, Batch] = {}
        for record in records:
            try:
                found |= await self._read_all([record])
            except LogGapError as error:
                log.error(  # noqa: TRY400  the sentence says it all
                    "block_rows.records_gone",
                    partition=record.partition,
                    incarnation=record.incarnation,
                    first_offset=record.first_offset,
                    next_offset=record.next_offset,
                    reason=str(error),
                )
        return found

    async def _read_all(self, records: Sequence[BatchRecord]) -> dict[int, Batch]:
        """The batches of these records, read from the log, by their first offset. LogGapError when the log
        lacks one, or holds another in its place."""
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
                    batches[done.first_offset] = _checked(done, collected)
                    collected = []
        return batches


def _checked(record: BatchRecord, records: Sequence[LogRecord]) -> Batch:
    batch = decode_batch(record.partition, record.incarnation, records)
    if record.last_record_hash not in {None, batch.last_record_hash}:
        raise LogGapError(
            f"partition {record.partition}: the record at {batch.next_offset - 1} is not the one that was "
            f"billed in incarnation {record.incarnation}"
        )
    return batch
