"""Keeps the door's knowledge up with the compacted topics: campaigns, budget gates and keys."""

import asyncio
import time
from typing import Any, Generic

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from ingest import metrics
from ingest.domain.knowledge import Knowledge, Table, Value
from ingest.domain.progress import Progress
from schemas import access_keys, budget_gates, campaign_state
from schemas.access_keys import AccessKey
from schemas.budget_gates import BudgetGate
from schemas.campaign_state import CampaignState
from sql.consumers import end_consumer, positions

log = structlog.get_logger(__name__)

_FETCH_WAIT_MS = 100
_POLL_MS = 500
_CHECK_SECONDS = 10.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_CONNECT_SECONDS = 10.0


class LogReplaced(Exception):
    """A topic is missing, or shorter than what was read of it: it was made anew."""


class ReadingStopped(Exception):
    """There is something to be read, and it does not come: aiokafka's fetcher has ended, or hangs."""


class _Source(Generic[Value]):
    """One topic and the table it fills."""

    def __init__(self, table: Table[Value], kind: type[Value]) -> None:
        self.table = table
        self._decoder = msgspec.json.Decoder(kind)

    def take(self, record: "ConsumerRecord[bytes, bytes]") -> str:
        """Puts a record into the table; says what came of it."""
        if record.value is None:
            self.table.drop((record.key or b"").decode(errors="replace"))
            return "tombstone"
        try:
            value = self._decoder.decode(record.value)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return "undecodable"
        return "taken" if self.table.put(value) else "older"


class CampaignFeed:
    """Reads the topics whole from their starts, then follows them; begins again after any fault.

    It reads whole even when a snapshot was loaded: that is what finds entries that have gone since, topics
    that were made anew, and versions that a snapshot missed. `complete` is set once all topics have been read
    to their ends, and stays.
    """

    def __init__(self, bootstrap: str, knowledge: Knowledge) -> None:
        self._bootstrap = bootstrap
        self._sources: dict[str, _Source[Any]] = {
            campaign_state.TOPIC: _Source(knowledge.campaigns, CampaignState),
            access_keys.TOPIC: _Source(knowledge.keys, AccessKey),
            budget_gates.TOPIC: _Source(knowledge.gates, BudgetGate),
        }
        self.complete = False
        self.changes = 0
        """Rises with every change of the knowledge."""

    async def run(self) -> None:
        """Runs until cancelled; every fault is retried with growing pauses."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            started = time.monotonic()
            try:
                await self._read_and_follow()
            except (KafkaError, OSError, TimeoutError, LogReplaced, ReadingStopped) as error:
                metrics.FEED_RESTARTS.inc()
                if time.monotonic() - started > _CHECK_SECONDS:
                    pause = _FIRST_PAUSE_SECONDS
                log.warning("feed.interrupted", error=repr(error), next_try_seconds=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def _read_and_follow(self) -> None:
        # Without a group a subscription is given all partitions, from their starts.
        consumer = AIOKafkaConsumer(
            *self._sources,
            bootstrap_servers=self._bootstrap,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=_FETCH_WAIT_MS,
        )
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await consumer.start()
            check = _Check(consumer, self._assigned(consumer))
            await self._read_whole(consumer, check)
            await self._follow(consumer, check)
        finally:
            await end_consumer(consumer)

    def _assigned(self, consumer: AIOKafkaConsumer) -> list[TopicPartition]:
        partitions = sorted(consumer.assignment())
        if missing := self._sources.keys() - {part.topic for part in partitions}:
            raise LogReplaced(f"missing topics: {', '.join(sorted(missing))}")
        return partitions

    async def _read_whole(self, consumer: AIOKafkaConsumer, check: "_Check") -> None:
        ends = await consumer.end_offsets(check.partitions)
        for source in self._sources.values():
            source.table.begin_full_read()
        while any(at < ends[part] for part, at in (await positions(consumer, check.partitions)).items()):
            await self._poll(consumer)
            await check.when_due()
            metrics.FEED_COMPLETE.set(self.complete)
        dropped = sum(source.table.end_full_read() for source in self._sources.values())
        self.changes += dropped
        self.complete = True
        metrics.FEED_COMPLETE.set(1)
        self._show()
        log.info("feed.complete", forgotten=dropped)

    async def _follow(self, consumer: AIOKafkaConsumer, check: "_Check") -> None:
        while True:
            await self._poll(consumer)
            await check.when_due()

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        batches = await consumer.getmany(timeout_ms=_POLL_MS)
        for part, records in batches.items():
            for record in records:
                self._apply(part.topic, record)
        if batches:
            self._show()

    def _apply(self, topic: str, record: "ConsumerRecord[bytes, bytes]") -> None:
        outcome = self._sources[topic].take(record)
        self.changes += outcome in {"taken", "tombstone"}
        metrics.FEED_RECORDS.labels(topic, outcome).inc()
        if outcome == "undecodable":
            log.error("feed.undecodable", topic=topic, partition=record.partition, offset=record.offset)

    def _show(self) -> None:
        for topic, source in self._sources.items():
            metrics.KNOWN.labels(topic).set(len(source.table))


class _Check:
    """A look at the ends of the topics, now and then: nothing else tells that they were made anew, or that
    nothing is read of them any more."""

    def __init__(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> None:
        self.partitions = partitions
        self._consumer = consumer
        self._progress: Progress[TopicPartition] = Progress()
        self._next = time.monotonic() + _CHECK_SECONDS

    async def when_due(self) -> None:
        """Raises LogReplaced or ReadingStopped."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _CHECK_SECONDS
        ends = await self._consumer.end_offsets(self.partitions)
        read_to = await positions(self._consumer, self.partitions)
        if shorter := [part for part in self.partitions if ends[part] < read_to[part]]:
            raise LogReplaced(f"{shorter[0].topic} ends before what was read of it")
        if stalled := self._progress.stalled(read_to, ends):
            raise ReadingStopped(f"{stalled[0].topic} is read no further than {read_to[stalled[0]]}")
