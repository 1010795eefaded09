"""Makes events durable in Kafka: acknowledged by all in-sync replicas within a deadline, or not promised."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ingest import metrics
from ingest.domain.pack import OpenRecord, Packer, encode_chunks
from ingest.errors import NotDurable
from schemas.events import RECORD_HEADERS, TrackingEvent
from schemas.ids import partition_of
from schemas.topics import TRACKING_EVENTS

log = structlog.get_logger(__name__)

_Ticket = asyncio.Future[bool]
_MAX_BATCH_BYTES = 900_000
_MAX_REQUEST_BYTES = 8_000_000
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0
_CONNECT_SECONDS = 3.0
_STOP_SECONDS = 5.0
_SPARE_MS = 1_000


class KafkaSink:
    """The port that `routes` writes to: `store` returns when the events are durable, else raises NotDurable.

    A spool stands behind the same method: it would catch NotDurable of this one and keep the events.

    A producer that does not confirm a record in time may be wedged (a sequence that was lost leaves an
    idempotent producer stuck for good), so it is given up and another one is built. What it still delivers
    afterwards is a duplicate that the aggregator drops.
    """

    def __init__(
        self, bootstrap: str, *, linger_seconds: float, deadline_seconds: float, max_pending_bytes: int
    ) -> None:
        self._bootstrap = bootstrap
        self._linger = linger_seconds
        self._deadline = deadline_seconds
        self._max_pending = max_pending_bytes
        self._packer: Packer[_Ticket] = Packer()
        self._producer: AIOKafkaProducer | None = None
        self._partitions = 0
        self._pending = 0
        metrics.PENDING_BYTES.set_function(lambda: self._pending)
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._lost = asyncio.Event()

    async def run(self) -> None:
        """Keeps a producer connected, until cancelled."""
        while True:
            self._lost.clear()
            await self._connect()
            await self._lost.wait()

    async def store(self, events: Sequence[TrackingEvent]) -> None:
        """Returns when all events are durable. Raises NotDurable when not all are known to be in time."""
        if self._producer is None:
            raise NotDurable("Kafka cannot be reached")
        if self._pending > self._max_pending:
            raise NotDurable("too much is waiting for Kafka")
        delivered = True
        for ticket in self._append(events):
            # Nothing cancels the task of a request, so no rider can cancel the ticket of the others.
            delivered = await ticket and delivered
        if not delivered:
            raise NotDurable("Kafka did not confirm in time")

    async def close(self) -> None:
        """Sends what is still open and waits for it, at most for the deadline of a send."""
        self._flush()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._deadline + _SPARE_MS / 1000)
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)

    def _append(self, events: Sequence[TrackingEvent]) -> set[_Ticket]:
        if len(events) == 1:
            event = events[0]
            by_partition = {partition_of(event.organization_id, event.event_id, self._partitions): [event]}
        else:
            by_partition = {}
            for event in events:
                partition = partition_of(event.organization_id, event.event_id, self._partitions)
                by_partition.setdefault(partition, []).append(event)
        return {
            self._add(partition, lines, count)
            for partition, group in by_partition.items()
            for lines, count in encode_chunks(group)
        }

    def _add(self, partition: int, lines: bytes, events: int) -> _Ticket:
        loop = asyncio.get_running_loop()
        ticket, sealed = self._packer.add(partition, lines, events, loop.create_future())
        self._pending += len(lines)
        if sealed is not None:
            self._launch(sealed)
        if self._timer is None:
            self._timer = loop.call_later(self._linger, self._flush)
        return ticket

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for record in self._packer.drain():
            self._launch(record)

    def _launch(self, record: OpenRecord[_Ticket]) -> None:
        task = asyncio.get_running_loop().create_task(self._send(record))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, record: OpenRecord[_Ticket]) -> None:
        producer = self._producer
        delivered = False
        try:
            if producer is not None:
                await self._deliver(producer, record)
                delivered = True
        except (TimeoutError, KafkaError, OSError) as error:
            self._give_up(producer, error)
        finally:
            self._pending -= len(record.lines)
            metrics.RECORDS.labels("delivered" if delivered else "failed").inc()
            if not record.ticket.done():
                record.ticket.set_result(delivered)

    async def _deliver(self, producer: AIOKafkaProducer, record: OpenRecord[_Ticket]) -> None:
        async with asyncio.timeout(self._deadline):
            acknowledged = await producer.send(
                TRACKING_EVENTS,
                bytes(record.lines),
                partition=record.partition,
                headers=RECORD_HEADERS,
            )
            await acknowledged

    def _give_up(self, producer: AIOKafkaProducer | None, error: BaseException) -> None:
        if producer is None or self._producer is not producer:
            return
        log.warning("sink.producer_given_up", error=repr(error))
        metrics.PRODUCER_REBUILDS.inc()
        metrics.PRODUCER_CONNECTED.set(0)
        self._producer = None
        self._lost.set()
        task = asyncio.get_running_loop().create_task(_stop(producer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                self._producer = await self._started()
            except (TimeoutError, KafkaError, OSError) as error:
                log.warning("sink.kafka_unavailable", error=repr(error), next_try_seconds=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            else:
                metrics.PRODUCER_CONNECTED.set(1)
                return

    async def _started(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=_MAX_BATCH_BYTES,
            max_request_size=_MAX_REQUEST_BYTES,
            request_timeout_ms=int(self._deadline * 1000) + _SPARE_MS,
        )
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await producer.start()
                partitions = len(await producer.partitions_for(TRACKING_EVENTS))
            self._require_same(partitions)
        except BaseException:
            await _stop(producer)
            raise
        return producer

    def _require_same(self, partitions: int) -> None:
        """Copies of an event must meet in one partition, so another number of them must not be written to."""
        if self._partitions not in {0, partitions}:
            raise KafkaError(f"{TRACKING_EVENTS} had {self._partitions} partitions, now {partitions}")
        self._partitions = partitions


async def _stop(producer: AIOKafkaProducer) -> None:
    with suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(_STOP_SECONDS):
            await producer.stop()
