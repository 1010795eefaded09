"""Sends records to Kafka, each with a deadline; a producer that does not answer is replaced."""

import asyncio
import contextlib

import structlog
from aiokafka import AIOKafkaProducer

from control_api import metrics

log = structlog.get_logger(__name__)

_DEADLINE_SECONDS = 5.0
_STOP_SECONDS = 1.0


class KafkaPublisher:
    """The outbox relay's port to Kafka: one idempotent producer, acks=all, connected with the first record.

    aiokafka's idempotent producer can wedge after an error of the broker. After the deadline the outcome is
    unknown, so the producer is dropped and the relay sends the record again.
    """

    def __init__(self, bootstrap_servers: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._producer: AIOKafkaProducer | None = None
        self._in_order = asyncio.Lock()

    async def publish(self, topic: str, *, key: bytes | None, value: bytes, partition: int | None) -> None:
        """Returns when all in-sync replicas have the record; raises when that is not known."""
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                # Waiters of this lock are served in their order, so records are sent in the order of calls.
                async with self._in_order:
                    producer = await self._connected()
                    acked = await producer.send(topic, value, key=key, partition=partition)
                await acked
        except BaseException:
            metrics.PUBLISH_FAILURES.labels(topic).inc()
            await self._drop()
            raise
        metrics.PUBLISHED.labels(topic).inc()

    async def is_connected(self) -> bool:
        """Whether Kafka answers now."""
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                async with self._in_order:
                    producer = await self._connected()
                await producer.client.fetch_all_metadata()
        except Exception as error:  # noqa: BLE001  whatever it is, Kafka does not answer
            log.info("kafka.unavailable", error=repr(error))
            return False
        return True

    async def close(self) -> None:
        """Lets go of the producer."""
        await self._drop()

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap_servers,
                client_id="control_api",
                acks="all",
                enable_idempotence=True,
                linger_ms=0,
            )
            try:
                await producer.start()
            except BaseException:
                await _stop(producer)
                raise
            self._producer = producer
        return self._producer

    async def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)


async def _stop(producer: AIOKafkaProducer) -> None:
    """Closes without a flush. `stop` alone, given up while Kafka is away, leaves a sender behind that goes
    on: an older value that comes late would be the last one of its key."""
    sender = producer._sender  # noqa: SLF001  there is no public way to end a producer that can't flush
    if sender is not None and sender.sender_task is not None:
        sender.sender_task.cancel()
    for close in (producer.client.close, producer.stop):
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_STOP_SECONDS):
                await close()
