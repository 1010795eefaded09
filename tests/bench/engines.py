"""The engines of a bench, campaigns that doors and the ledger know, and the judge of what was counted."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import clickhouse_connect
import msgspec
from aiokafka import AIOKafkaProducer

from compose.layout import HOST
from compose.process import die_with_parent
from compose.topics import ensure_topics
from schemas import access_keys, campaign_state
from schemas.access_keys import AccessKey, KeyKind, hash_key
from schemas.campaign_state import CampaignState, Pricing
from schemas.ids import new_id
from schemas.reasons import CampaignStatus, PricingModel
from tests.running import RunningStack, free_port, running_stack, scratch

DAY_MS = 86_400_000
KEY = "a key of the bench"
_STUCK_SECONDS = 60.0
_SHOWN_LINES = 20
_BUDGET = 10**15
"""Of every other campaign, in micros: far away, but looked at."""
_PUBLISHED_AT_ONCE = 2_000
_COUNTED = """
    SELECT coalesce(sum(impressions + clicks + conversions + bounces + unsubscribes), 0)::bigint,
        coalesce(sum(billed), 0)::bigint, coalesce(sum(duplicates), 0)::bigint
    FROM ledger.accounts
"""
_STORED = "SELECT count(), sum(billed) FROM events"


class Void(Exception):
    """What was counted differs from what was promised: the figures of this run mean nothing."""


@dataclass(frozen=True)
class Counted:
    """Events and micros of the ledger, with the duplicates it dropped; rows and micros of ClickHouse."""

    events: int
    billed: int
    duplicates: int
    rows: int
    rows_billed: int


class Engines:
    """Kafka, Postgres and ClickHouse with new databases, and `campaigns` that all run."""

    names = ("kafka", "postgres", "clickhouse")

    def __init__(
        self, stack: RunningStack, folder: Path, postgres: str, clickhouse: str, partitions: int
    ) -> None:
        self.folder = folder
        self.partitions = partitions
        self.kafka = stack.ready.kafka
        self.postgres = postgres
        self.clickhouse = clickhouse
        self.campaigns: list[str] = []
        self.organization = new_id()
        self._pids = stack.ready.processes

    def pid(self, name: str) -> int:
        """Of one of `names`."""
        return self._pids[name][0]

    @staticmethod
    def now_ms() -> int:
        return time.time_ns() // 1_000_000

    async def make_campaigns(self, count: int) -> None:
        """Campaigns that cost 2.50 a thousand impressions, every other with a budget that it will not reach:
        known to doors and the ledger."""
        made = [self._campaign() for _ in range(count)]
        connection = await asyncpg.connect(self.postgres)
        await connection.copy_records_to_table(
            "accounts",
            schema_name="ledger",
            columns=("campaign_id", "organization_id", "currency", "budget"),
            records=[
                (
                    UUID(each.campaign_id),
                    UUID(self.organization),
                    each.currency,
                    _BUDGET if number % 2 else None,
                )
                for number, each in enumerate(made)
            ],
        )
        await connection.close()
        key = AccessKey(
            key_hash=hash_key(KEY),
            version=1,
            key_id=new_id(),
            organization_id=self.organization,
            kind=KeyKind.PUBLISHABLE,
        )
        await self._publish(
            [
                (access_keys.TOPIC, key.key_hash, key),
                *((campaign_state.TOPIC, each.campaign_id, each) for each in made),
            ]
        )
        self.campaigns += [each.campaign_id for each in made]

    def _campaign(self) -> CampaignState:
        now = self.now_ms()
        return CampaignState(
            campaign_id=new_id(),
            version=1,
            organization_id=self.organization,
            status=CampaignStatus.ACTIVE,
            starts_at=now - DAY_MS,
            ends_at=now + 365 * DAY_MS,
            pricing=Pricing(PricingModel.CPM, 2_500_000),
            currency="EUR",
            budget_version=1,
        )

    async def _publish(self, values: Sequence[tuple[str, str, msgspec.Struct]]) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self.kafka, acks="all", linger_ms=20) as producer:
            for start in range(0, len(values), _PUBLISHED_AT_ONCE):
                sent = [
                    await producer.send(topic, msgspec.json.encode(value), key=key.encode())
                    for topic, key, value in values[start : start + _PUBLISHED_AT_ONCE]
                ]
                await asyncio.gather(*sent)

    async def counted(self) -> Counted:
        """What ledger and ClickHouse have of all campaigns."""
        connection = await asyncpg.connect(self.postgres)
        ledger = await connection.fetchrow(_COUNTED)
        await connection.close()
        client = await clickhouse_connect.get_async_client(dsn=self.clickhouse)
        stored = (await client.query(_STORED)).result_rows[0]
        await client.close()
        return Counted(*(int(value or 0) for value in (*ledger, *stored)))

    async def require_counted(self, promised: int) -> Counted:
        """Waits until so many events are counted and stored; Void when there are others, or nothing moves.

        Duplicates are none of it: what Kafka has confirmed late was promised by the spool.
        """
        moved_at, last = time.monotonic(), Counted(0, 0, 0, 0, 0)
        while True:
            counted = await self.counted()
            if counted.events >= promised and counted.rows >= promised:
                break
            if counted != last:
                moved_at, last = time.monotonic(), counted
            if time.monotonic() - moved_at > _STUCK_SECONDS:
                break
            await asyncio.sleep(1)
        if not (counted.events == counted.rows == promised and counted.billed == counted.rows_billed):
            raise Void(f"{promised:,} events were promised, there are {counted}")
        return counted


@asynccontextmanager
async def engines(campaigns: int, partitions: int = 4) -> AsyncIterator[Engines]:
    """Engines that nobody else uses, without services."""
    with scratch() as folder, running_stack(folder / "state", "--only-engines") as stack:
        made = Engines(
            stack, folder, await stack.fresh_postgres(), await stack.fresh_clickhouse(), partitions
        )
        await ensure_topics(made.kafka, partitions)
        await made.make_campaigns(campaigns)
        yield made


@dataclass
class Service:
    """A process of ours under measurement."""

    process: "subprocess.Popen[bytes]"
    address: tuple[str, int]

    @property
    def pid(self) -> int:
        return self.process.pid

    def require_running(self) -> None:
        """RuntimeError when it has ended: nothing starts it again here."""
        if self.process.poll() is not None:
            raise RuntimeError(f"it ended with {self.process.returncode}")

    async def metric(self, name: str) -> float:
        """See `metric`."""
        host, port = self.address
        return await metric(f"http://{host}:{port}", name)


async def metric(url: str, name: str) -> float:
    """What a service shows: the sum over the labels, if `name` has none."""
    async with aiohttp.ClientSession() as http, http.get(f"{url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith((f"{name} ", f"{name}{{"))  # with or without labels
    )


@asynccontextmanager
async def door(engines: Engines, **settings: str) -> AsyncIterator[Service]:
    """A door that knows all campaigns and can write to Kafka."""
    address = (HOST, free_port())
    with _running("ingest", engines, FLIGHTLINE_BIND=f"{address[0]}:{address[1]}", **settings) as process:
        service = Service(process, address)

        async def is_ready() -> bool:
            try:
                return bool(
                    await service.metric("flightline_ingest_feed_complete")
                    and await service.metric("flightline_ingest_producer_connected")
                )
            except aiohttp.ClientError:
                return False

        await until(is_ready, 60)
        known = await service.metric('flightline_ingest_known{table="campaign-state"}')
        assert known == len(engines.campaigns), f"the door knows {known} campaigns"
        yield service


@asynccontextmanager
async def aggregator(engines: Engines, number: int = 0, **settings: str) -> AsyncIterator[Service]:
    """An aggregator that has been given its partitions, or soon will be."""
    address = (HOST, free_port())
    with _running(
        "aggregator",
        engines,
        FLIGHTLINE_POSTGRES=engines.postgres,
        FLIGHTLINE_CLICKHOUSE=engines.clickhouse,
        FLIGHTLINE_METRICS_BIND=f"{address[0]}:{address[1]}",
        FLIGHTLINE_GROUP_INSTANCE=f"aggregator-{number}",
        **settings,
    ) as process:
        yield Service(process, address)


@contextmanager
def _running(module: str, engines: Engines, **settings: str) -> Iterator["subprocess.Popen[bytes]"]:
    state = engines.folder / module
    state.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "FLIGHTLINE_KAFKA": engines.kafka,
        "FLIGHTLINE_STATE": str(state),
        "FLIGHTLINE_GRACE_MS": "0",
        **settings,
    }
    output = state / f"{uuid4()}.log"
    with output.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent(signal.SIGTERM, os.getpid()),  # noqa: PLW1509 - a system call only
        )
    try:
        yield process
    except BaseException:
        print(module, *output.read_text(errors="replace").splitlines()[-_SHOWN_LINES:], sep="\n")  # noqa: T201
        raise
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
        process.kill()
        process.wait(10)


async def until(condition: Callable[[], Awaitable[bool]], within_s: float, every_s: float = 0.05) -> None:
    """Polls until the condition holds; TimeoutError when it does not in time."""
    async with asyncio.timeout(within_s):
        while not await condition():
            await asyncio.sleep(every_s)
