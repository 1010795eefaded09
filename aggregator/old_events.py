"""Events that waited long in a door's spool: whether they were counted, only ClickHouse may know.

An event's copy may have been counted for as long before it was received as a client sends it again (23 h).
When it has waited for Kafka for an hour on top of that, the id of that copy may be forgotten.
"""

from collections.abc import Iterator, Sequence

import structlog

from aggregator import metrics
from aggregator.block_ledger import BlockLedger
from aggregator.domain.batch import Batch
from aggregator.event_store import EventStore
from aggregator.log_reader import LogReader
from aggregator.retry import TRANSIENT, tries
from schemas.events import TrackingEvent

log = structlog.get_logger(__name__)

_DAY_MS = 24 * 3600 * 1000
SKEW_MS = 5 * 60 * 1000
"""By how much the clocks of doors and brokers may differ."""

_SPARE_MS = 3600 * 1000
"""By so much less than the window of the seen ids lie copies apart: a client gives an event up 23 h after its
first attempt (docs/DOOR.md), and the window is 24 h. So long a spool may keep it without further ado."""

_AT_ONCE, _AT_ONCE_BYTES = 500, 64 * 1024
"""ClickHouse refuses a query of 256 KiB, and an id may be twice as long there: each quote is escaped."""


class OldEvents:
    """Looks events up in ClickHouse, once it holds all that the seen ids have forgotten.

    Their partition waits for that: an event that was promised is neither counted twice nor dropped.
    `window_ms` is that of the seen ids.
    """

    def __init__(
        self, blocks: BlockLedger, events: EventStore, log_reader: LogReader, window_ms: int
    ) -> None:
        self._blocks = blocks
        self._events = events
        self._log_reader = log_reader
        self._apart_ms = max(0, window_ms - _SPARE_MS)

    def of(self, batch: Batch, forgotten_before: int) -> list[int]:
        """Indexes of the batch's events that may have been counted under an id that is forgotten; nearly
        always none. `forgotten_before`: ids counted before it (log time, epoch ms) may be unknown.
        """
        bound = forgotten_before + self._apart_ms + SKEW_MS
        return [index for index, event in enumerate(batch.events) if event.received_at < bound]

    async def counted(self, batch: Batch, forgotten_before: int) -> set[int]:
        """Indexes of the batch's events that were counted before. Waits for ClickHouse if any is old."""
        old = self.of(batch, forgotten_before)
        if not old:
            return set()
        waiting = metrics.old_events_waiting.labels(str(batch.partition))
        waiting.set(len(old))
        try:
            return await self._wait(batch, old, forgotten_before + SKEW_MS)
        finally:
            waiting.set(0)

    async def _wait(self, batch: Batch, old: Sequence[int], bound: int) -> set[int]:
        async for number in tries():
            try:
                if await self._holds_all_before(batch, bound):
                    return await self._look_up(batch, old)
                reason = "ClickHouse lacks what was billed before the window of the seen ids"
            except TRANSIENT as error:
                reason = f"{type(error).__name__}: {error}"
            log.warning(
                "old_events.billing_waits",
                partition=batch.partition,
                first_offset=batch.first_offset,
                events=len(old),
                tries=number + 1,
                reason=reason,
            )
        raise AssertionError("tries() never ends")

    async def _holds_all_before(self, batch: Batch, bound: int) -> bool:
        """Whether whatever is billed and not stored yet is young enough to be known by its seen id."""
        stored_to = await self._blocks.stored_to(batch.partition)
        if stored_to >= batch.first_offset:
            return True
        if stored_to < 0:
            return False
        record = await self._log_reader.record_at(batch.partition, stored_to)
        return record is None or record.at >= bound

    async def _look_up(self, batch: Batch, old: Sequence[int]) -> set[int]:
        found: set[int] = set()
        for indexes in _parts(batch, old):
            part = {index: batch.events[index] for index in indexes}
            since = min(event.received_at for event in part.values()) - 2 * _DAY_MS
            counted = await self._events.which_counted(list(part.values()), since)
            found |= {index for index, event in part.items() if _identity(event) in counted}
        return found


def _parts(batch: Batch, old: Sequence[int]) -> Iterator[list[int]]:
    """`old` in parts that one query may ask for."""
    part: list[int] = []
    size = 0
    for index in old:
        event = batch.events[index]
        length = len(event.event_id.encode()) + len(event.campaign_id)
        if part and (len(part) == _AT_ONCE or size + length > _AT_ONCE_BYTES):
            yield part
            part, size = [], 0
        part.append(index)
        size += length
    if part:
        yield part


def _identity(event: TrackingEvent) -> tuple[str, str, str]:
    return event.organization_id, event.campaign_id, event.event_id
