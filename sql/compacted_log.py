"""Follows compacted topics from their starts, without a group."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from sql.consumers import end_consumer, positions

_FETCH_WAIT_MS = 100
_KAFKA_SECONDS = 10.0
_CHECK_SECONDS = 5.0


class TopicReplaced(Exception):
    """A topic is missing, or shorter than what was read of it: it was made anew."""


class CompactedLog:
    """Hands every record of the topics to `take`, in the order of each partition.

    `alive` is called every few seconds, however long a read takes. All methods raise KafkaError, OSError or
    TimeoutError while Kafka is away; then open another one.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topics: Sequence[str],
        take: "Callable[[ConsumerRecord[bytes, bytes]], None]",
        alive: Callable[[], Awaitable[object]],
    ) -> None:
        self._topics = topics
        self._take = take
        self._alive = alive
        self._next_check = 0.0
        self._next_offsets: dict[TopicPartition, int] = {}
        self._consumer = AIOKafkaConsumer(
            *topics,
            bootstrap_servers=bootstrap_servers,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=_FETCH_WAIT_MS,
        )

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(_KAFKA_SECONDS):
                await self._consumer.start()
        except BaseException:
            await end_consumer(self._consumer)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await end_consumer(self._consumer)

    async def read_to_end(self) -> None:
        """Returns when everything that stood in the topics at the call has been taken."""
        partitions = self._assigned()
        async with asyncio.timeout(_KAFKA_SECONDS):
            ends = await self._consumer.end_offsets(partitions)
        began = time.monotonic()
        while any(at < ends[part] for part, at in (await positions(self._consumer, partitions)).items()):
            if await self.poll(_FETCH_WAIT_MS / 1000):
                began = time.monotonic()
            elif time.monotonic() - began > _KAFKA_SECONDS:
                raise TimeoutError("Kafka gives no records, though the topics have more")

    async def poll(self, seconds: float) -> int:
        """Takes what comes within so long; returns how many records that were. Raises TopicReplaced."""
        batches = await self._consumer.getmany(timeout_ms=round(seconds * 1000))
        for partition, records in batches.items():
            if records[0].offset < self._next_offsets.get(partition, 0):
                raise TopicReplaced(f"{partition.topic} begins anew")
            for record in records:
                self._take(record)
            self._next_offsets[partition] = records[-1].offset + 1
        if time.monotonic() >= self._next_check:
            self._next_check = time.monotonic() + _CHECK_SECONDS
            await self._alive()
            await self._require_same()
        return sum(map(len, batches.values()))

    async def _require_same(self) -> None:
        partitions = self._assigned()
        async with asyncio.timeout(_KAFKA_SECONDS):
            ends = await self._consumer.end_offsets(partitions)
        for partition in partitions:
            # Not the consumer's position: that begins anew when the client finds another topic.
            if ends[partition] < self._next_offsets.get(partition, 0):
                raise TopicReplaced(f"{partition.topic} ends before what was read of it")

    def _assigned(self) -> set[TopicPartition]:
        partitions: set[TopicPartition] = self._consumer.assignment()
        if missing := set(self._topics) - {partition.topic for partition in partitions}:
            raise TopicReplaced(f"missing topics: {', '.join(sorted(missing))}")
        return partitions
