"""Reads ranges of `tracking-events` again, beside the consumer that bills."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from aggregator.domain.batch import LogRecord
from aggregator.errors import LogGapError
from schemas.events import SCHEMA_HEADER
from schemas.topics import TRACKING_EVENTS

_FETCH_MS = 1_000
_MAX_RECORDS = 500


def log_record(offset: int, at: int, headers: object, value: bytes | None) -> LogRecord:
    """A record as the domain sees it. `headers` are (name, bytes) pairs, `at` is epoch ms."""
    schema = None
    for name, content in headers or ():  # type: ignore[attr-defined]  # whatever sequence the client gives
        if name == SCHEMA_HEADER:
            schema = content.decode(errors="replace")
    return LogRecord(offset=offset, at=at, schema=schema, value=value or b"")


class LogReader:
    """One consumer without a group; one range at a time."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._consumer: AIOKafkaConsumer | None = None
        self._lock = asyncio.Lock()

    async def stop(self) -> None:
        """Closes the consumer, if one was opened."""
        if self._consumer is not None:
            await self._consumer.stop()
            self._consumer = None

    async def offset_at(self, partition: int, epoch_ms: int) -> int:
        """The first offset at or after `epoch_ms` in the log's time; the end if there is none."""
        topic_partition = TopicPartition(TRACKING_EVENTS, partition)
        async with self._lock:
            consumer = await self._open()
            found = (await consumer.offsets_for_times({topic_partition: epoch_ms}))[topic_partition]
            if found is not None:
                return int(found.offset)
            return int((await consumer.end_offsets([topic_partition]))[topic_partition])

    async def time_of(self, partition: int, offset: int) -> int:
        """The time in the log (epoch ms) of the record at `offset`. LogGapError when it is not there."""
        async with aclosing(self.read(partition, offset, offset + 1)) as parts:
            async for records in parts:
                return records[0].at
        raise LogGapError(f"partition {partition} has no record at {offset}")

    async def read(
        self, partition: int, first_offset: int, next_offset: int
    ) -> AsyncGenerator[list[LogRecord], None]:
        """The records of a range (`next_offset` exclusive) in order, some hundred at a time.

        LogGapError when the log does not hold all of them; Kafka being away is waited for by its client.
        """
        topic_partition = TopicPartition(TRACKING_EVENTS, partition)
        at = first_offset
        async with self._lock:
            consumer = await self._open()
            consumer.assign([topic_partition])
            consumer.seek(topic_partition, first_offset)
            try:
                while at < next_offset:
                    fetched = await consumer.getmany(
                        topic_partition, timeout_ms=_FETCH_MS, max_records=_MAX_RECORDS
                    )
                    records = [r for r in fetched.get(topic_partition, []) if at <= r.offset < next_offset]
                    if records:
                        _require_next(partition, at, records)
                        at = records[-1].offset + 1
                        yield [log_record(r.offset, r.timestamp, r.headers, r.value) for r in records]
            finally:
                consumer.unsubscribe()

    async def _open(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self._bootstrap_servers,
                enable_auto_commit=False,
                # A range that was cut off must be an error, not a jump to what is left.
                auto_offset_reset="none",
                fetch_max_wait_ms=50,
                max_partition_fetch_bytes=4 * 1024 * 1024,
            )
            await consumer.start()
            self._consumer = consumer
        return self._consumer


def _require_next(
    partition: int, expected: int, records: "list[ConsumerRecord[bytes | None, bytes | None]]"
) -> None:
    first, last = records[0].offset, records[-1].offset
    if first != expected or last - first + 1 != len(records):
        raise LogGapError(f"partition {partition}: records between {expected} and {last} are missing")
