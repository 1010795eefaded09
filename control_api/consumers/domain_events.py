"""Reads `campaign-events` and writes a delivery for each webhook that wants an event.

All domain events pass there, the aggregator's alerts too. How far the topic is read stands in Postgres and
moves in the transaction that writes the deliveries, so that none is lost or made twice by a crash. Every
replica reads the whole topic, which is small; the row of a partition's offset decides whose reading counts.
"""

import asyncio
from collections.abc import Callable

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from control_api import metrics
from control_api.domain.webhooks import Occurrence, moment_of
from control_api.errors import Unavailable
from control_api.handlers.ports import Clock, Store, Unit
from control_api.handlers.sending import ReadEvent, take
from schemas import domain_events
from schemas.ids import canonical_uuid
from sql.consumers import end_consumer

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 0.5
_POLL_MS = 500
_AT_ONCE = 100
"""Records of a partition in a transaction."""

_event = msgspec.json.Decoder(Occurrence)


class DomainEventConsumer:
    """Runs until cancelled; begins anew where Postgres says when Kafka or Postgres was away. `wake` is called
    when there is something to deliver. A record that can't be read is logged, counted and passed over."""

    def __init__(self, bootstrap_servers: str, store: Store, clock: Clock, wake: Callable[[], None]) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._store = store
        self._clock = clock
        self._wake = wake

    async def run(self) -> None:
        """Reads for ever."""
        while True:
            try:
                await self._consume()
            except (KafkaError, OSError, TimeoutError, Unavailable) as error:
                log.warning("domain_events.unavailable", error=repr(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def _consume(self) -> None:
        consumer = AIOKafkaConsumer(
            domain_events.TOPIC,
            bootstrap_servers=self._bootstrap_servers,
            client_id="control_api",
            # A log that is cut or another one than before is an error, and every partition is sought again.
            auto_offset_reset="none",
            enable_auto_commit=False,
        )
        try:
            await consumer.start()
            sought = consumer.assignment()
            for partition in sought:
                await self._seek(consumer, partition)
            log.info("domain_events.reading")
            # The client takes what a deleted topic has left, nothing, for an assignment as well.
            while consumer.assignment() == sought:
                batches = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_AT_ONCE)
                for partition, records in batches.items():
                    await self._take(partition, records)
        finally:
            await end_consumer(consumer)
        log.warning("domain_events.another_topic")
        await asyncio.sleep(_RETRY_SECONDS)

    async def _seek(self, consumer: "AIOKafkaConsumer[bytes, bytes]", partition: TopicPartition) -> None:
        """To where the deliveries end. A log that ends before that is another one: it is read from its
        beginning, and what is known of it already is known by its id."""
        first: int = (await consumer.beginning_offsets([partition]))[partition]
        end = (await consumer.end_offsets([partition]))[partition]

        async def work(unit: Unit) -> int:
            next_offset = await unit.deliveries.lock_offset(partition.partition)
            if next_offset > end:
                await unit.deliveries.set_offset(partition.partition, first)
                log.warning("domain_events.another_log", partition=partition.partition, offset=next_offset)
                return first
            return max(next_offset, first)

        consumer.seek(partition, await self._store.in_transaction(work))

    async def _take(self, partition: TopicPartition, records: "list[ConsumerRecord[bytes, bytes]]") -> None:
        read = [ReadEvent(record.offset, _read(record), record.value or b"") for record in records]
        made = await take(self._store, partition.partition, read, self._clock())
        if made:
            metrics.WEBHOOK_DELIVERIES_MADE.inc(made)
            self._wake()


def _read(record: "ConsumerRecord[bytes, bytes]") -> Occurrence | None:
    try:
        return read_event(record.value or b"")
    except (ValueError, OverflowError, RecursionError) as error:
        metrics.UNREADABLE_DOMAIN_EVENTS.inc()
        log.error(  # noqa: TRY400  the sentence says it all
            "domain_events.unreadable", partition=record.partition, offset=record.offset, error=repr(error)
        )
        return None


def read_event(value: bytes) -> Occurrence:
    """An event whose fields Postgres can take. Raises ValueError, OverflowError, or RecursionError."""
    value.decode()  # it is signed as text
    event = _event.decode(value)
    if not canonical_uuid(event.id) or not canonical_uuid(event.organization):
        raise ValueError("id and organization must be UUIDs")
    if "\0" in event.subject + event.type:
        raise ValueError("subject or type has a NUL")
    moment_of(event)
    return event
