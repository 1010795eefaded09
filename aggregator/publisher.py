"""Sends records to Kafka with a deadline of its own; a producer that does not answer is replaced."""

import asyncio
import contextlib
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer

log = structlog.get_logger(__name__)

_DEADLINE_SECONDS = 10.0


class Publisher:
    """One idempotent producer, acks=all. `publish` is the port of the outbox's relay and of dead letters.

    aiokafka's idempotent producer can wedge after an error of the broker: after the deadline the outcome is
    unknown, the producer is dropped, and the caller sends again.
    """

    def __init__(self, bootstrap_servers: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._producer: Any = None
        self._lock = asyncio.Lock()

    async def publish(self, topic: str, *, key: bytes | None, value: bytes, partition: int | None) -> None:
        """Returns when all in-sync replicas have the record; TimeoutError or a KafkaError if unknown."""
        producer = await self._open()
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                await producer.send_and_wait(topic, value, key=key, partition=partition)
        except Exception:
            await self._drop(producer)
            raise

    async def stop(self) -> None:
        """Flushes and closes."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def _open(self) -> Any:
        async with self._lock:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap_servers,
                    acks="all",
                    enable_idempotence=True,
                    linger_ms=0,
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    async def _drop(self, producer: Any) -> None:
        if producer is not self._producer:
            return
        self._producer = None
        log.warning("publisher.producer_dropped")
        with contextlib.suppress(Exception):
            async with asyncio.timeout(1):
                await producer.stop()
