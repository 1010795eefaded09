"""Sends records to Kafka in order, each with a deadline; a producer that does not answer is replaced.

The port of an outbox's relay (`sql.outbox.Publish`), of dead letters and of alerts.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError

log = structlog.get_logger(__name__)


class Deadlines(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. `connect`: for a new producer. `send`: from a record's turn to Kafka's ack, each of its two
    halves (room in the producer, then the ack). `end`: for each step of closing a producer."""

    connect: float = 10.0
    send: float = 10.0
    end: float = 1.0


class Publisher:
    """One idempotent producer, acks=all, connected with the first record.

    aiokafka's idempotent producer can wedge after an error of the broker: after the deadline the outcome is
    unknown, the producer is dropped, and the caller sends again. What is dropped sends nothing more: an older
    value that came late would be the last one of its key. The deadline belongs to the record, not to the
    caller: a caller that is cancelled fails nobody else's records, and leaves none without a deadline.
    `on_outcome` hears of each record: its topic, and whether Kafka has acked it.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        client_id: str,
        deadlines: Deadlines | None = None,
        on_outcome: Callable[[str, bool], None] = lambda _topic, _acked: None,
    ) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._client_id = client_id
        self._deadlines = deadlines or Deadlines()
        self._on_outcome = on_outcome
        self._producer: Any = None
        self._lock = asyncio.Lock()
        self._refusals = 0
        self._stopped = False
        self._under_way: set[asyncio.Task[None]] = set()

    async def publish(
        self, topic: str, *, key: bytes | None, value: bytes | None, partition: int | None
    ) -> None:
        """Returns when all in-sync replicas have the record; TimeoutError or a KafkaError if unknown."""
        try:
            await self._publish(topic, key, value, partition)
        except Exception:
            self._on_outcome(topic, False)
            raise
        self._on_outcome(topic, True)

    async def is_connected(self) -> bool:
        """Whether Kafka answers now."""
        try:
            async with asyncio.timeout(self._deadlines.end):
                async with self._lock:
                    producer = await self._open()
                await producer.client.fetch_all_metadata()
        except Exception as error:  # noqa: BLE001  whatever it is, Kafka does not answer
            log.info("publisher.kafka_unavailable", error=repr(error))
            return False
        return True

    async def stop(self) -> None:
        """Closes at once; every call under way fails. Without a flush: whoever goes on in place of this
        process sends again what was not acked, and an older value that came late would be the last one."""
        self._stopped = True
        for task in self._under_way:
            task.cancel()
        producer, self._producer = self._producer, None
        if producer is not None:
            await self._end(producer)

    async def _publish(
        self, topic: str, key: bytes | None, value: bytes | None, partition: int | None
    ) -> None:
        refusals = self._refusals
        # Waiters of the lock are served in their order. Without it a small record overtakes one that is too
        # large for the rest of a batch.
        async with self._lock:
            if self._stopped:
                raise KafkaConnectionError("the publisher has been stopped")
            if refusals != self._refusals:  # else five hundred in a line would each wait for the deadline
                raise KafkaConnectionError("Kafka did not take the record before this one")
            try:
                producer = await self._open()
                acked = await self._send(producer, topic, key, value, partition)
            except Exception:
                self._refusals += 1
                raise
        waiting = asyncio.create_task(self._until_acked(producer, acked))
        self._under_way.add(waiting)
        waiting.add_done_callback(self._landed)
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            if waiting.cancelled():  # by `stop`, not by the caller
                raise KafkaConnectionError("the publisher has been stopped") from None
            raise

    async def _send(
        self, producer: Any, topic: str, key: bytes | None, value: bytes | None, partition: int | None
    ) -> "asyncio.Future[Any]":
        try:
            async with asyncio.timeout(self._deadlines.send):
                acked: asyncio.Future[Any] = await producer.send(topic, value, key=key, partition=partition)
        except Exception:
            await self._drop(producer)
            raise
        return acked

    def _landed(self, waiting: asyncio.Task[None]) -> None:
        self._under_way.discard(waiting)
        if not waiting.cancelled():
            waiting.exception()  # looked at: the caller may be gone

    async def _until_acked(self, producer: Any, acked: "asyncio.Future[Any]") -> None:
        try:
            async with asyncio.timeout(self._deadlines.send):
                await acked
        except Exception:
            await self._drop(producer)
            raise

    async def _open(self) -> Any:
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap_servers,
                client_id=self._client_id,
                acks="all",
                enable_idempotence=True,
                linger_ms=0,
            )
            try:
                async with asyncio.timeout(self._deadlines.connect):
                    await producer.start()
            except BaseException:
                await self._end(producer)
                raise
            self._producer = producer
        return self._producer

    async def _drop(self, producer: Any) -> None:
        if producer is not self._producer:
            return
        self._producer = None
        log.warning("publisher.producer_dropped", client=self._client_id)
        await self._end(producer)

    async def _end(self, producer: Any) -> None:
        """Closes without a flush. `stop` alone would flush for as long as Kafka is away; given up in the
        middle, it leaves a sender behind that goes on sending."""
        sender = producer._sender  # noqa: SLF001  there is no public way to end a producer that can't flush
        if sender is not None and sender.sender_task is not None:
            sender.sender_task.cancel()
        for close in (producer.client.close, producer.stop):
            with contextlib.suppress(Exception):
                async with asyncio.timeout(self._deadlines.end):
                    await close()
