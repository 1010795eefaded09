"""Builds the aggregator: the only place where its adapters are made and wired."""

import asyncio
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import structlog

from aggregator.agents import build_app
from aggregator.block_ledger import BlockLedger
from aggregator.clickhouse import ClickHouse
from aggregator.dead_letters import DeadLetters
from aggregator.event_store import EventStore
from aggregator.health import HealthServer
from aggregator.incarnation_ledger import IncarnationLedger
from aggregator.incarnations import Incarnations
from aggregator.ledger import Ledger
from aggregator.ledger_days import maintain_days
from aggregator.live_windows import add_live_windows
from aggregator.log_reader import LogReader
from aggregator.postgres import connect_pool
from aggregator.settings import Settings
from aggregator.settlement import Settlement
from schemas.process import spare_the_collector
from sql.outbox import RELAY_COMMAND_SECONDS, RELAY_SESSION, OutboxRelay
from sql.publisher import Publisher

log = structlog.get_logger(__name__)

_CONNECT_SECONDS = 10
_PUBLISH_SECONDS = 1.5


class Aggregator:
    """The worker's parts with a life: opened before Faust asks for offsets, closed after its last batch."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._publisher = Publisher(settings.kafka, client_id="aggregator")
        self.app = build_app(settings, self)
        add_live_windows(self.app, settings.live_windows(), self._publisher.publish, clock_ms)
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = AsyncExitStack()
        self._stopping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Opens the adapters; what is opened here is closed in the opposite order by `stop`."""
        settings = self._settings
        pool = await connect_pool(settings.postgres, settings.postgres_connections)
        self._closing.callback(pool.terminate)
        publisher = self._publisher
        # A range at a time: to read a day of ids again must not hold up those who look at a record.
        log_reader, recovery_reader = LogReader(settings.kafka), LogReader(settings.kafka)
        self._closing.push_async_callback(log_reader.stop)
        self._closing.push_async_callback(recovery_reader.stop)
        clickhouse = ClickHouse(settings.clickhouse)
        self._closing.push_async_callback(clickhouse.close)
        ledger = Ledger(pool)
        relay = OutboxRelay(self._connect, "ledger", publisher.publish)
        health = HealthServer(settings.metrics_bind, self._is_ready)
        await health.start()
        self._closing.push_async_callback(health.stop)
        self._closing.push_async_callback(self._cancel_tasks)
        # Before the relay's lock is given up: whoever has it next must not be overtaken.
        self._closing.push_async_callback(publisher.stop)
        self._tasks = [
            asyncio.create_task(self._watched(work))
            for work in (relay.run(), maintain_days(ledger, settings.log_retention_seconds))
        ]
        self.app.settlement = Settlement(
            settings,
            ledger,
            BlockLedger(pool),
            EventStore(clickhouse),
            log_reader,
            recovery_reader,
            Incarnations(IncarnationLedger(pool), log_reader),
            DeadLetters(publisher.publish),
            clock_ms=clock_ms,
            on_crossing=relay.wake,
            on_failure=self._crash,
        )
        self._closing.push_async_callback(finish, relay, self._tasks[0])
        # Handed over first of all: what is billed is stored if that can be done in a few seconds.
        self._closing.push_async_callback(self.app.settlement.stop)
        spare_the_collector()

    async def stop(self) -> None:
        """Hands the partitions over and closes everything, once, however often it is called."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._closing.aclose())
        await asyncio.shield(self._stopping)

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
        if not self.app.rebalancing_count or self.app.rebalancing:
            return False
        consumer: Any = self.app.consumer
        claimed: bool = consumer.is_claimed()
        return claimed

    def _crash(self, error: BaseException) -> None:
        self._failure = asyncio.ensure_future(self.app.crash(error))

    async def _connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(
            self._settings.postgres,
            timeout=_CONNECT_SECONDS,
            command_timeout=RELAY_COMMAND_SECONDS,
            server_settings=RELAY_SESSION,
        )


async def finish(relay: OutboxRelay, running: asyncio.Task[None]) -> None:
    """Lets the relay publish what was billed, if that can be done soon."""
    relay.finish()
    await asyncio.wait({running}, timeout=_PUBLISH_SECONDS)


def clock_ms() -> int:
    """Now, in epoch milliseconds: the one place where the aggregator asks for the time of day."""
    return time.time_ns() // 1_000_000
