"""Owners of partitions in one process, on the real engines: what an aggregator does, without Faust."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import KafkaError
from clickhouse_connect.driver.asyncclient import AsyncClient

from aggregator.app import clock_ms
from aggregator.block_ledger import BlockLedger
from aggregator.clickhouse import ClickHouse
from aggregator.dead_letters import DeadLetters
from aggregator.event_store import Client, EventStore
from aggregator.incarnation_ledger import IncarnationLedger
from aggregator.incarnations import Incarnations
from aggregator.ledger import Ledger
from aggregator.log_reader import LogReader
from aggregator.postgres import connect_pool
from aggregator.settings import Settings
from aggregator.settlement import Settlement
from compose.ready import Ready
from compose.reconcile.reconcile import Reconciliation
from compose.topics import EMBEDDED_PARTITIONS, ensure_topics
from schemas.events import RECORD_HEADERS, TrackingEvent, encode_events
from schemas.reasons import EventType
from schemas.topics import TRACKING_EVENTS

ORGANIZATION = str(uuid4())
WITHIN_S = 60
AWAY = "http://default:x@127.0.0.1:9/none"
"""A ClickHouse that does not answer."""


async def until(condition: Callable[[], Awaitable[object]], what: str, within_s: float = WITHIN_S) -> None:
    """Polls until the condition holds; fails the test when it does not in time."""
    async with asyncio.timeout(within_s) as bound:
        while not await condition():
            await asyncio.sleep(0.05)
    assert not bound.expired(), what


def impression(campaign_id: str, event_id: str, cost: int = 1_000, **fields: Any) -> TrackingEvent:
    now = clock_ms()
    values: dict[str, Any] = {
        "event_id": event_id,
        "organization_id": ORGANIZATION,
        "campaign_id": campaign_id,
        "type": EventType.IMPRESSION,
        "received_at": now,
        "occurred_at": now,
        "currency": "EUR",
        "budget_version": 1,
        "cost": cost,
    }
    return TrackingEvent(**(values | fields))


class Log:
    """`tracking-events` of a broker that nobody else uses."""

    def __init__(self, kafka: str) -> None:
        self._kafka = kafka

    async def write(self, partition: int, *records: list[TrackingEvent], at: int | None = None) -> list[int]:
        """Appends a record for each list of events, of now or of a time (epoch ms); returns their offsets."""
        producer = AIOKafkaProducer(bootstrap_servers=self._kafka, acks="all")
        await producer.start()
        try:
            sent = [
                await producer.send_and_wait(
                    TRACKING_EVENTS,
                    encode_events(events),
                    partition=partition,
                    headers=RECORD_HEADERS,
                    timestamp_ms=at,
                )
                for events in records
            ]
        finally:
            await producer.stop()
        return [each.offset for each in sent]

    async def make_anew(self) -> None:
        """Deletes the topic with all that it holds, and creates it again."""
        async with self._admin() as admin:
            await admin.delete_topics([TRACKING_EVENTS])

            async def is_gone() -> bool:
                return TRACKING_EVENTS not in await admin.list_topics()

            await until(is_gone, "the topic is gone")

        async def is_there() -> bool:
            try:
                await ensure_topics(self._kafka)
                await self._ends()
            except KafkaError:
                return False
            return True

        await until(is_there, "the topic is there again")

    async def _ends(self) -> None:
        consumer = AIOKafkaConsumer(bootstrap_servers=self._kafka)
        await consumer.start()
        try:
            partitions = [TopicPartition(TRACKING_EVENTS, n) for n in range(EMBEDDED_PARTITIONS)]
            assert set((await consumer.end_offsets(partitions)).values()) == {0}
        finally:
            await consumer.stop()

    async def delete_below(self, partition: int, offset: int) -> None:
        async with self._admin() as admin:
            await admin.delete_records(
                {TopicPartition(TRACKING_EVENTS, partition): RecordsToDelete(before_offset=offset)}
            )

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._kafka)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()


class Owner:
    """One process that owns partitions; `failures` is what would have ended it."""

    def __init__(
        self, settings: Settings, pool: asyncpg.Pool, clickhouse: Client, clock: Callable[[], int]
    ) -> None:
        self.failures: list[BaseException] = []
        self.log_reader = LogReader(settings.kafka)
        self.recovery_reader = LogReader(settings.kafka)
        self.consumer = LogReader(settings.kafka)
        self.settlement = Settlement(
            settings,
            Ledger(pool),
            BlockLedger(pool),
            EventStore(clickhouse),
            self.log_reader,
            self.recovery_reader,
            Incarnations(IncarnationLedger(pool), self.log_reader),
            DeadLetters(_no_dead_letters),
            clock_ms=clock,
            on_crossing=lambda: None,
            on_failure=self.failures.append,
        )

    async def bill(self, partition: int) -> int:
        """Claims the partition, and bills what the log holds; returns the offset at which it began."""
        first = (await self.settlement.assign([partition]))[partition]
        await self.bill_from(partition, first)
        return first

    async def bill_from(self, partition: int, first_offset: int) -> None:
        _, end = await self.log_reader.bounds(partition)
        async for records in self.consumer.read(partition, first_offset, end):
            assert await self.settlement.settle(partition, records) == partition


@asynccontextmanager
async def owner(
    kafka: str,
    postgres: str,
    clickhouse_url: str,
    state: Path,
    *,
    through: Callable[[ClickHouse], Client] = lambda clickhouse: clickhouse,
    clock: Callable[[], int] = clock_ms,
    **settings: Any,
) -> AsyncIterator[Owner]:
    """An owner with connections of its own; handed over at the end of the block. `through` may put something
    between it and ClickHouse."""
    pool = await connect_pool(postgres, 6)
    clickhouse = ClickHouse(clickhouse_url)
    values: dict[str, Any] = {
        "kafka": kafka,
        "postgres": postgres,
        "clickhouse": clickhouse_url,
        "state": state,
        "owner": str(uuid4()),
        "store_linger_seconds": 0.01,
        "store_interval_seconds": 0.01,
        "verify_after_seconds": 0.2,
    }
    made = Owner(Settings(**(values | settings)), pool, through(clickhouse), clock)
    try:
        yield made
    finally:
        await made.settlement.stop()
        await made.consumer.stop()
        await made.log_reader.stop()
        await clickhouse.close()
        pool.terminate()


async def account(pool: asyncpg.Connection, budget: int | None = None) -> str:
    campaign_id = str(uuid4())
    await pool.execute(
        "INSERT INTO ledger.accounts (campaign_id, organization_id, currency, budget)"
        " VALUES ($1, $2, 'EUR', $3)",
        UUID(campaign_id),
        UUID(ORGANIZATION),
        budget,
    )
    return campaign_id


async def _no_dead_letters(*_: object, value: bytes, **__: object) -> None:
    raise AssertionError(f"a dead letter: {value!r}")


class Books:
    """The engines of one test: a new log, and databases of its own."""

    def __init__(
        self, kafka: str, postgres: str, clickhouse: str, ledger: asyncpg.Connection, rows: AsyncClient
    ) -> None:
        self.log = Log(kafka)
        self.engines = (kafka, postgres, clickhouse)
        self.without_clickhouse = (kafka, postgres, AWAY)
        self.ledger = ledger
        self.rows = rows
        names = ("ingest", "control_api", "grpc", "admin_token", "write_key", "server_key")
        self._addresses: dict[str, Any] = {**dict.fromkeys(names, ""), "processes": {}}

    async def counted(self, campaign: str) -> tuple[int, int, int]:
        """Impressions, micros billed and duplicates, as the ledger has them."""
        row = await self.ledger.fetchrow(
            "SELECT impressions, billed, duplicates FROM ledger.accounts WHERE campaign_id = $1",
            UUID(campaign),
        )
        return tuple(row)

    async def stored(self) -> list[tuple[int, str]]:
        """(incarnation, eventId) of all rows."""
        result = await self.rows.query(
            "SELECT incarnation, event_id FROM events ORDER BY incarnation, log_offset, event_index"
        )
        return [tuple(row) for row in result.result_rows]

    async def is_settled(self) -> bool:
        """Whether all that was billed stands in blocks, and all blocks are stored and verified."""
        waiting = await self.ledger.fetchval(  # at one moment: a block may be cut between two statements
            "SELECT (SELECT count(*) FROM ledger.blocks WHERE stored_at IS NULL OR verified_at IS NULL)"
            " + (SELECT count(*) FROM ledger.partitions WHERE blocked_offset < next_offset)"
        )
        return not waiting

    async def incarnations(self) -> list[tuple[object, ...]]:
        rows = await self.ledger.fetch(
            "SELECT incarnation, base, first_offset, former_next_offset, lost_rows, lost_billed"
            " FROM ledger.incarnations ORDER BY incarnation"
        )
        return [tuple(row) for row in rows]

    async def reconciled(self) -> str:
        """What `flightline reconcile` finds to differ; empty when all agree."""
        kafka, postgres, clickhouse = self.engines
        ready = Ready(**self._addresses, kafka=kafka, postgres=postgres, clickhouse=clickhouse)
        outcome = await Reconciliation(ready, [], 30, lambda _: None).run()
        return "\n".join(map(str, outcome.differences))

    async def losses(self) -> list[tuple[object, ...]]:
        rows = await self.ledger.fetch(
            "SELECT incarnation, first_offset, next_offset, event_rows, billed FROM ledger.losses ORDER BY id"
        )
        return [tuple(row) for row in rows]
