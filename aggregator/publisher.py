"""Sends records to Kafka with a deadline of its own; a producer that does not answer is replaced."""

import asyncio
import contextlib
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer

log = structlog.get_logger(__name__)

_DEADLINE_SECONDS = 10.0
_FLUSH_SECONDS = 2.0
_END_SECONDS = 1.0


class Publisher:
    """One idempotent producer, acks=all. `publish` is the port of the outbox's relay and of dead letters.

    aiokafka's idempotent producer can wedge after an error of the broker: after the deadline the outcome is
    unknown, the producer is dropped, and the caller sends again. What is dropped sends nothing more: an older
    value that came late would be the last one of its key.
    """

    def __init__(self, bootstrap_servers: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._producer: Any = None
        self._lock = asyncio.Lock()

    async def publish(self, topic: str, *, key: bytes | None, value: bytes, partition: int | None) -> None:
        """Returns when all in-sync replicas have the record; TimeoutError or a KafkaError if unknown."""
        # Waiters of the lock are served in their order. Without it a small record overtakes one that is too
        # large for the rest of a batch.
        async with self._lock:
            producer = await self._open()
            try:
                async with asyncio.timeout(_DEADLINE_SECONDS):
                    acked = await producer.send(topic, value, key=key, partition=partition)
            except Exception:
                await self._drop(producer)
                raise
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                await acked
        except Exception:
            await self._drop(producer)
            raise

    async def stop(self) -> None:
        """Flushes, if Kafka answers soon, and closes."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_FLUSH_SECONDS):
                    await producer.flush()
            await _end(producer)

    async def _open(self) -> Any:
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap_servers,
                acks="all",
                enable_idempotence=True,
                linger_ms=0,
            )
            try:
                async with asyncio.timeout(_DEADLINE_SECONDS):
                    await producer.start()
            except BaseException:
                await _end(producer)
                raise
            self._producer = producer
        return self._producer

    async def _drop(self, producer: Any) -> None:
        if producer is not self._producer:
            return
        self._producer = None
        log.warning("publisher.producer_dropped")
        await _end(producer)


async def _end(producer: Any) -> None:
    """Closes without a flush. `stop` alone would flush for as long as Kafka is away; given up in the middle,
    it leaves a sender behind that goes on sending."""
    sender = producer._sender  # noqa: SLF001  there is no public way to end a producer that can't flush
    if sender is not None and sender.sender_task is not None:
        sender.sender_task.cancel()
    for close in (producer.client.close, producer.stop):
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_END_SECONDS):
                await close()
