"""The way into Kafka: a producer that is kept connected, and replaced when it does not confirm."""

import asyncio
from contextlib import suppress

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ingest import metrics
from ingest.domain.circuit import Circuit, State
from ingest.errors import NotConfirmed
from schemas.events import RECORD_HEADERS
from schemas.topics import TRACKING_EVENTS

log = structlog.get_logger(__name__)

_MAX_BATCH_BYTES = 900_000
_MAX_REQUEST_BYTES = 8_000_000
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0
_CONNECT_SECONDS = 3.0
_STOP_SECONDS = 2.0
_SPARE_MS = 1_000


class KafkaSink:
    """Delivers records to `tracking-events`: each is acknowledged by all in-sync replicas, or NotConfirmed.

    A producer that does not confirm a record in time may be wedged (a sequence that was lost leaves an
    idempotent producer stuck for good), so it is given up and another one is built. What it still delivers
    afterwards is a duplicate that the aggregator drops. After that one record tries for all (`Circuit`).
    """

    def __init__(self, bootstrap: str, *, deadline_seconds: float) -> None:
        self._bootstrap = bootstrap
        self._deadline = deadline_seconds
        self._circuit = Circuit(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        self._producer: AIOKafkaProducer | None = None
        self._given_up = asyncio.Event()
        self._unacknowledged: set[asyncio.Future[object]] = set()
        self._reachable = asyncio.Event()
        self._abandoned: set[asyncio.Task[None]] = set()
        self.partitions = 0
        """Of the topic; 0 before the first connection. Fixed for the topic's life."""
        metrics.CIRCUIT_OPEN.set_function(lambda: self.state is not State.CLOSED)

    @property
    def state(self) -> State:
        """CLOSED: send. HALF_OPEN: one may try. OPEN: nothing can be sent."""
        return self._circuit.state

    async def reachable(self) -> None:
        """Returns while there is a producer, waits otherwise."""
        await self._reachable.wait()

    async def run(self) -> None:
        """Keeps a producer connected, until cancelled."""
        while True:
            await asyncio.sleep(self._circuit.pause)
            try:
                producer = await self._started()
            except (TimeoutError, KafkaError, OSError) as error:
                self._circuit.failed()
                log.warning("sink.kafka_unavailable", error=repr(error), next_try_seconds=self._circuit.pause)
                continue
            self._given_up.clear()
            self._producer = producer
            self._circuit.connected()
            self._reachable.set()
            metrics.PRODUCER_CONNECTED.set(1)
            await self._given_up.wait()

    async def deliver(self, partition: int, lines: bytes) -> None:
        """Returns when the record is acknowledged. Raises NotConfirmed, at once while Kafka is away."""
        producer = self._producer
        if producer is None or not self._circuit.admits():
            raise NotConfirmed("Kafka is away")
        try:
            async with asyncio.timeout(self._deadline):
                await self._sent(producer, partition, lines)
        except NotConfirmed:
            raise
        except Exception as error:  # aiokafka's own mistakes too: the spool takes the record
            self._give_up(producer, error)
            raise NotConfirmed("Kafka did not confirm in time") from error
        if self._producer is producer:
            self._circuit.succeeded()

    async def _sent(self, producer: AIOKafkaProducer, partition: int, lines: bytes) -> None:
        acknowledged = await producer.send(
            TRACKING_EVENTS, lines, partition=partition, headers=RECORD_HEADERS
        )
        if self._producer is not producer:
            raise NotConfirmed("the producer was given up")
        await self._confirmed(acknowledged)

    async def _confirmed(self, acknowledged: asyncio.Future[object]) -> None:
        """Returns when it is; raises NotConfirmed when the producer is given up in the meantime."""
        self._unacknowledged.add(acknowledged)
        try:
            await acknowledged
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # the deadline, or the end of the door
            raise NotConfirmed("the producer was given up") from None
        finally:
            self._unacknowledged.discard(acknowledged)

    async def close(self) -> None:
        """Ends the producer; what was not confirmed by now is not waited for."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(_STOP_SECONDS):
                    await producer.stop()
        if self._abandoned:
            await asyncio.wait(self._abandoned, timeout=_STOP_SECONDS)

    def _give_up(self, producer: AIOKafkaProducer, error: BaseException) -> None:
        if self._producer is not producer:
            return
        self._producer = None
        self._circuit.failed()
        self._reachable.clear()
        self._given_up.set()
        # All that wait with the record that failed go to the spool now, not one deadline after the other.
        for acknowledged in tuple(self._unacknowledged):
            acknowledged.cancel()
        log.warning("sink.producer_given_up", error=repr(error), next_try_seconds=self._circuit.pause)
        metrics.PRODUCER_REBUILDS.inc()
        metrics.PRODUCER_CONNECTED.set(0)
        task = asyncio.get_running_loop().create_task(_abandon(producer))
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)

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
            await _abandon(producer)
            raise
        return producer

    def _require_same(self, partitions: int) -> None:
        """Copies of an event must meet in one partition, so another number of them must not be written to."""
        if self.partitions not in {0, partitions}:
            raise KafkaError(f"{TRACKING_EVENTS} had {self.partitions} partitions, now {partitions}")
        self.partitions = partitions


async def _abandon(producer: AIOKafkaProducer) -> None:
    """Ends a producer without waiting for what it holds, which `stop` would do, for ever perhaps.

    Its sender and connections would live on, and each attempt while Kafka is away would add others.
    """
    # There is no public way to drop what a producer holds.
    producer._closed = True  # noqa: SLF001
    sender = producer._sender.sender_task  # noqa: SLF001
    with suppress(KafkaError, OSError, TimeoutError):
        if sender is not None:
            sender.cancel()
        async with asyncio.timeout(_STOP_SECONDS):
            await producer.client.close()
            if sender is not None:
                await asyncio.wait((sender,))
