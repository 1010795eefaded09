"""Reads ranges of `tracking-events` again, beside the consumer that bills."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord

from aggregator.domain.batch import LogRecord, hash_of
from aggregator.errors import LogGapError, LogUnavailable
from schemas.events import SCHEMA_HEADER
from schemas.topics import TRACKING_EVENTS
from sql.consumers import end_consumer

_FETCH_MS = 1_000
_MAX_RECORDS = 500
_CERTAIN_LOOKS = 3
"""For a moment after its start a broker may not know its own end."""
_BETWEEN_LOOKS_SECONDS = 1.0
_SILENT_LOOKS = 10
"""A second apart: Kafka's client was seen to fetch nothing any more, without an error."""


def log_record(offset: int, at: int, headers: object, value: bytes | None) -> LogRecord:
    """A record as the domain sees it. `headers` are (name, bytes) pairs, `at` is epoch ms."""
    schema = None
    for name, content in headers or ():  # type: ignore[attr-defined]  # whatever sequence the client gives
        if name == SCHEMA_HEADER:
            schema = content.decode(errors="replace")
    return LogRecord(offset=offset, at=at, schema=schema, value=value or b"")


class LogReader:
    """One consumer without a group; one range at a time.

    Every method raises LogUnavailable when Kafka could not be asked; a read that has begun waits for it.
    """

    def __init__(self, bootstrap_servers: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._consumer: AIOKafkaConsumer | None = None
        self._lock = asyncio.Lock()

    async def stop(self) -> None:
        """Closes the consumer, if one was opened."""
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            await end_consumer(consumer)

    async def offset_at(self, partition: int, epoch_ms: int) -> int:
        """The first offset at or after `epoch_ms` in the log's time; the end if there is none."""
        topic_partition = TopicPartition(TRACKING_EVENTS, partition)
        async with self._lock:
            with _kafka_errors(partition):
                return await self._offset_at(await self._open(), topic_partition, epoch_ms)

    async def bounds(self, partition: int) -> tuple[int, int]:
        """Where the partition begins, and where it ends (exclusive)."""
        topic_partition = TopicPartition(TRACKING_EVENTS, partition)
        async with self._lock:
            with _kafka_errors(partition):
                consumer = await self._open()
                first = (await consumer.beginning_offsets([topic_partition]))[topic_partition]
                end = (await consumer.end_offsets([topic_partition]))[topic_partition]
        return first, end

    async def is_billed(self, partition: int, next_offset: int, last_record_hash: bytes | None) -> bool:
        """Whether this is the log that was billed up to `next_offset`: it goes on there, and its last record
        before is the one of this hash (None: any).

        The topic's id would tell a topic made anew as well; aiokafka does not ask for it. A log whose last
        billed record is there and the same is the same below, too: logs are cut at their end only.
        """
        first, end = await self.bounds(partition)
        if not first <= next_offset <= end:
            return False
        if next_offset == first or last_record_hash is None:
            return True  # all that was billed has been deleted, as old records are; or there is nothing yet
        try:
            return hash_of(await self._record(partition, next_offset - 1)) == last_record_hash
        except LogGapError:
            return False

    async def is_surely_another(
        self, partition: int, next_offset: int, last_record_hash: bytes | None
    ) -> bool:
        """Whether it is not the log that was billed, after several looks: a broker that has just started may
        tell an end too low for a moment."""
        for look in range(_CERTAIN_LOOKS):
            if look:
                await asyncio.sleep(_BETWEEN_LOOKS_SECONDS)
            if await self.is_billed(partition, next_offset, last_record_hash):
                return False
        return True

    async def record_at(self, partition: int, offset: int) -> LogRecord | None:
        """The record at `offset`; None when it was deleted with all before it, as old records are.

        LogGapError when the log ends before it.
        """
        first, end = await self.bounds(partition)
        if offset >= end:
            raise LogGapError(f"partition {partition}: the log ends at {end}, before {offset}")
        if offset < first:
            return None
        return await self._record(partition, offset)

    async def _record(self, partition: int, offset: int) -> LogRecord:
        async with aclosing(self.read(partition, offset, offset + 1)) as parts:
            async for records in parts:
                return records[0]
        raise LogGapError(f"partition {partition} has no record at {offset}")

    async def _offset_at(
        self, consumer: AIOKafkaConsumer, topic_partition: TopicPartition, epoch_ms: int
    ) -> int:
        found = (await consumer.offsets_for_times({topic_partition: epoch_ms}))[topic_partition]
        if found is not None:
            return int(found.offset)
        return int((await consumer.end_offsets([topic_partition]))[topic_partition])

    async def read(
        self, partition: int, first_offset: int, next_offset: int
    ) -> AsyncGenerator[list[LogRecord], None]:
        """The records of a range (`next_offset` exclusive) in order, some hundred at a time. Waits for Kafka.

        LogGapError when the log does not hold all of them.
        """
        if first_offset >= next_offset:
            return
        topic_partition = TopicPartition(TRACKING_EVENTS, partition)
        at = first_offset
        async with self._lock:
            with _kafka_errors(partition):
                consumer = await self._open()
            consumer.assign([topic_partition])
            consumer.seek(topic_partition, first_offset)
            nothing = _Nothing(partition, next_offset)
            try:
                while at < next_offset:
                    with _kafka_errors(partition):
                        fetched = await consumer.getmany(
                            topic_partition, timeout_ms=_FETCH_MS, max_records=_MAX_RECORDS
                        )
                    records = [r for r in fetched.get(topic_partition, []) if at <= r.offset < next_offset]
                    if records:
                        _require_next(partition, at, records)
                        at = records[-1].offset + 1
                        nothing = _Nothing(partition, next_offset)
                        yield [log_record(r.offset, r.timestamp, r.headers, r.value) for r in records]
                    else:
                        nothing.came(await _end_of(consumer, topic_partition))
            except LogUnavailable:
                await self.stop()  # the next read opens another consumer
                raise
            finally:
                # Not `unsubscribe`: aiokafka's fetcher ends for good when it finds no subscription just after
                # it was told of one, and every later read would wait for ever.
                if self._consumer is not None:
                    consumer.pause(topic_partition)

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
            try:
                await consumer.start()
            except BaseException:
                await end_consumer(consumer)
                raise
            self._consumer = consumer
        return self._consumer


class _Nothing:
    """Looks that brought nothing of a range, one after the other."""

    def __init__(self, partition: int, next_offset: int) -> None:
        self._partition = partition
        self._next_offset = next_offset
        self._shorter = 0
        self._silent = 0

    def came(self, end: int | None) -> None:
        """Another one; the log ended at `end` then (None: not known). LogGapError when it is certain to end
        before the range does: at its end a log that was cut gives no error. LogUnavailable when it holds the
        range and does not give it."""
        self._shorter = self._shorter + 1 if end is not None and end < self._next_offset else 0
        self._silent = self._silent + 1 if end is not None and end >= self._next_offset else 0
        if self._shorter == _CERTAIN_LOOKS:
            raise LogGapError(f"partition {self._partition}: the log ends before {self._next_offset}")
        if self._silent == _SILENT_LOOKS:
            raise LogUnavailable(f"partition {self._partition}: nothing comes of what the log holds")


async def _end_of(consumer: AIOKafkaConsumer, topic_partition: TopicPartition) -> int | None:
    """Where the log ends (exclusive); None while Kafka can't say."""
    try:
        return int((await consumer.end_offsets([topic_partition]))[topic_partition])
    except KafkaError:
        return None


@contextmanager
def _kafka_errors(partition: int) -> Iterator[None]:
    try:
        yield
    except OffsetOutOfRangeError as error:
        raise LogGapError(
            f"partition {partition}: the log does not hold what is to be read: {error}"
        ) from error
    except KafkaError as error:
        raise LogUnavailable(f"partition {partition}: {type(error).__name__}: {error}") from error


def _require_next(
    partition: int, expected: int, records: "list[ConsumerRecord[bytes | None, bytes | None]]"
) -> None:
    first, last = records[0].offset, records[-1].offset
    if first != expected or last - first + 1 != len(records):
        raise LogGapError(f"partition {partition}: records between {expected} and {last} are missing")
