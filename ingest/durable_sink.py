"""Makes events durable: in Kafka, or in the spool when Kafka does not confirm them in time."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence

import structlog

from ingest import metrics
from ingest.domain.circuit import State
from ingest.domain.pack import LONGEST_LINGERS, OpenRecord, Packer, encode_chunks
from ingest.errors import NotConfirmed, NotDurable, SpoolRefused
from ingest.kafka_sink import KafkaSink
from ingest.spool import Spool
from schemas.events import TrackingEvent
from schemas.ids import partitions_of

log = structlog.get_logger(__name__)

Done = Callable[[NotDurable | None], None]
_Ticket = list[Done]
"""Who rides in a record, to be told when it is durable, or why not."""

_UNKNOWN_PARTITION = -1
"""Before Kafka was ever reached; such a record can only be spooled."""

_RETRY_SECONDS = 5
"""What a client is told to wait for a spool that refuses."""


def _tell(done: Done, error: NotDurable | None) -> None:
    """Whatever goes wrong with one rider is no matter of the others."""
    try:
        done(error)
    except Exception:
        metrics.UNEXPECTED.inc()
        log.exception("sink.rider_failed")


class _Several:
    """Tells one rider of several records: when the last of them has ended."""

    __slots__ = ("_done", "_error", "_left")

    def __init__(self, records: int, done: Done) -> None:
        self._left = records
        self._done = done
        self._error: NotDurable | None = None

    def __call__(self, error: NotDurable | None) -> None:
        self._left -= 1
        self._error = error or self._error
        if not self._left:
            self._done(self._error)


class DurableSink:
    """The port that `routes` writes to: `store` says when the events are durable, or why not.

    An event of unknown outcome is spooled with its eventId: what Kafka has of it nevertheless is a duplicate
    that the aggregator drops.

    Records go out in rounds: one is open for a linger, and until the round before it has ended, within a
    bound. So the busier the door or the slower Kafka, the more events share a record, whose cost is the same.
    """

    def __init__(
        self, kafka: KafkaSink, spool: Spool, *, linger_seconds: float, max_pending_bytes: int
    ) -> None:
        self._kafka = kafka
        self._spool = spool
        self._linger = linger_seconds
        self._max_pending = max_pending_bytes
        self._packer: Packer[_Ticket] = Packer()
        self._pending = 0
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._waits = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._show()

    @property
    def trouble(self) -> str:
        """What an operator should know; empty when events go straight to Kafka and the spool is empty."""
        events = self._spool.held.events
        parts = (
            "" if self._kafka.state is State.CLOSED else "Kafka does not confirm",
            f"{events} events are in the spool" if events else "",
            self._spool.refusal,
        )
        return "; ".join(part for part in parts if part)

    def require_room(self) -> None:
        """Raises NotDurable when it is clear beforehand that nothing can be stored: costs next to nothing."""
        if self._pending > self._max_pending:
            raise NotDurable("too much is waiting to become durable")
        if self._kafka.state is State.OPEN and (refusal := self._spool.refusal):
            raise NotDurable(f"Kafka is away and {refusal}", _RETRY_SECONDS)

    def store(self, events: Sequence[TrackingEvent], done: Done) -> None:
        """Calls `done` when all events, of one organization, are durable, or not all are known to be in time.
        NotDurable when it is clear at once."""
        self.require_room()
        groups = [
            (partition, lines, count)
            for partition, group in self._by_partition(events)
            for lines, count in encode_chunks(group)
        ]
        if len(groups) > 1:
            done = _Several(len(groups), done)
        for partition, lines, count in groups:
            self._add(partition, lines, count).append(done)

    async def close(self) -> None:
        """Sends or spools what is still open; returns when all of it has been answered."""
        self._flush()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _show(self) -> None:
        spool = self._spool
        metrics.PENDING_BYTES.set_function(lambda: self._pending)
        metrics.SPOOL_BYTES.set_function(lambda: spool.held.used_bytes)
        metrics.SPOOL_EVENTS.set_function(lambda: spool.held.events)
        metrics.SPOOL_USABLE.set_function(lambda: not spool.refusal)
        metrics.SPOOL_OLDEST_SECONDS.set_function(
            lambda: max(0.0, time.time() - spool.held.oldest_at / 1000) if spool.held.oldest_at else 0.0
        )

    def _by_partition(self, events: Sequence[TrackingEvent]) -> Iterator[tuple[int, Sequence[TrackingEvent]]]:
        partitions = self._kafka.partitions
        if not partitions:
            yield _UNKNOWN_PARTITION, events
            return
        places = partitions_of(events[0].organization_id, [event.event_id for event in events], partitions)
        if len(events) == 1:
            yield places[0], events
            return
        groups: dict[int, list[TrackingEvent]] = {}
        for partition, event in zip(places, events, strict=True):
            groups.setdefault(partition, []).append(event)
        yield from groups.items()

    def _add(self, partition: int, lines: bytes, events: int) -> _Ticket:
        ticket, sealed = self._packer.add(partition, lines, events, [])
        self._pending += len(lines)
        if sealed is not None:
            self._launch(sealed)
        if self._timer is None:
            self._timer = self._loop.call_later(self._linger, self._linger_is_over)
        return ticket

    def _linger_is_over(self) -> None:
        if self._tasks and not self._waits:
            self._waits = True
            self._timer = self._loop.call_later(self._linger * (LONGEST_LINGERS - 1), self._flush)
        else:
            self._flush()

    def _flush(self) -> None:
        self._waits = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for record in self._packer.drain():
            self._launch(record)

    def _launch(self, record: OpenRecord[_Ticket]) -> None:
        task = self._loop.create_task(self._settle(record))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._waits and not self._tasks:
            self._flush()

    async def _settle(self, record: OpenRecord[_Ticket]) -> None:
        outcome, refused = "failed", "the door failed"
        try:
            outcome, refused = await self._keep(record), ""
        except SpoolRefused as error:
            refused = f"Kafka is away and {error}"
        finally:
            self._pending -= len(record.lines)
            metrics.RECORDS.labels(outcome).inc()
            not_durable = NotDurable(refused, _RETRY_SECONDS) if refused else None
            for done in record.ticket:
                _tell(done, not_durable)

    async def _keep(self, record: OpenRecord[_Ticket]) -> str:
        """Where the record is durable now. Raises SpoolRefused."""
        lines = bytes(record.lines)
        if self._may_try_kafka(record.partition):
            try:
                await self._kafka.deliver(record.partition, lines)
            except NotConfirmed:
                pass
            else:
                return "delivered"
        await self._spool.append(record.events, lines)
        return "spooled"

    def _may_try_kafka(self, partition: int) -> bool:
        """While it is not known whether Kafka is back, the spool's own records find out, if there are any:
        nobody waits for their answer.

        Those of a disk that hangs can't: then a new record does, or the door would refuse all that comes
        although Kafka is back. What is spooled follows when the disk answers, after what is younger, as it
        does whenever a spool is drained; and what comes twice by that has its eventId.
        """
        if partition == _UNKNOWN_PARTITION:
            return False
        return self._kafka.state is not State.HALF_OPEN or not self._spool.drains
