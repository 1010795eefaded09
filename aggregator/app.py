"""Builds the aggregator: the only place where its adapters are made and wired."""

import asyncio
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import structlog

from aggregator.agents import build_app
from aggregator.block_ledger import BlockLedger
from aggregator.clickhouse import ClickHouse
from aggregator.dead_letters import DeadLetters
from aggregator.event_store import EventStore
from aggregator.health import HealthServer
from aggregator.ledger import Ledger
from aggregator.live_windows import add_live_windows
from aggregator.log_reader import LogReader
from aggregator.postgres import RETRYABLE, connect_pool
from aggregator.publisher import Publisher
from aggregator.retry import tries
from aggregator.settings import Settings
from aggregator.settlement import Settlement
from sql.outbox import RELAY_SESSION, OutboxRelay

log = structlog.get_logger(__name__)

_CONNECT_SECONDS = 10
_NEXT_DAYS_EVERY = timedelta(hours=1)


class Aggregator:
    """The worker's parts with a life: opened before Faust asks for offsets, closed after its last batch."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._publisher = Publisher(settings.kafka)
        self.app = build_app(settings, self)
        add_live_windows(self.app, settings.live_windows(), self._publisher.publish, clock_ms)
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = AsyncExitStack()

    async def start(self) -> None:
        """Opens the adapters; what is opened here is closed in the opposite order by `stop`."""
        settings = self._settings
        pool = await connect_pool(settings.postgres, settings.postgres_connections)
        self._closing.callback(pool.terminate)
        publisher = self._publisher
        self._closing.push_async_callback(publisher.stop)
        log_reader = LogReader(settings.kafka)
        self._closing.push_async_callback(log_reader.stop)
        clickhouse = ClickHouse(settings.clickhouse)
        self._closing.push_async_callback(clickhouse.close)
        ledger = Ledger(pool)
        relay = OutboxRelay(self._connect, "ledger", publisher.publish)
        health = HealthServer(settings.metrics_bind, self._is_ready)
        await health.start()
        self._closing.push_async_callback(health.stop)
        self._closing.push_async_callback(self._cancel_tasks)
        self._tasks = [
            asyncio.create_task(self._watched(work)) for work in (relay.run(), create_days(ledger))
        ]
        self.app.settlement = Settlement(
            settings,
            ledger,
            BlockLedger(pool),
            EventStore(clickhouse),
            log_reader,
            DeadLetters(publisher.publish),
            clock_ms=clock_ms,
            on_crossing=relay.wake,
            on_failure=self._crash,
        )
        # Handed over first of all: what is billed is stored if that can be done in a few seconds.
        self._closing.push_async_callback(self.app.settlement.stop)

    async def stop(self) -> None:
        """Hands the partitions over and closes everything."""
        await self._closing.aclose()

    async def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watched(self, work: Coroutine[Any, Any, None]) -> None:
        """Background work that ends with a fault ends the process: without it gates would stay open."""
        try:
            await work
        except Exception as error:
            log.exception("aggregator.background_failed")
            self._crash(error)

    def _is_ready(self) -> bool:
        return bool(self.app.rebalancing_count) and not self.app.rebalancing

    def _crash(self, error: BaseException) -> None:
        self._failure = asyncio.ensure_future(self.app.crash(error))

    async def _connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(
            self._settings.postgres, timeout=_CONNECT_SECONDS, server_settings=RELAY_SESSION
        )


def clock_ms() -> int:
    """Now, in epoch milliseconds: the one place where the aggregator asks for the time of day."""
    return time.time_ns() // 1_000_000


async def create_days(ledger: Ledger) -> None:
    """Makes tomorrow's table partitions of the ledger, every hour, until cancelled."""
    while True:
        today = datetime.now(UTC).date()
        for day in (today, today + timedelta(days=1)):
            await _create_day(ledger, day)
        await asyncio.sleep(_NEXT_DAYS_EVERY.total_seconds())


async def _create_day(ledger: Ledger, day: date) -> None:
    """Makes the partitions of one day; where they can't be made, rows of that day go to the default ones."""
    async for _ in tries():
        try:
            await ledger.create_day(day)
        except RETRYABLE as error:
            log.warning("ledger.day_not_created", day=str(day), error=str(error))
        except asyncpg.PostgresError as error:
            # Such as rows of the day that are in the default partition already: they are found there as well.
            log.error("ledger.day_refused", day=str(day), error=str(error))  # noqa: TRY400  Postgres said it all
            return
        else:
            return
