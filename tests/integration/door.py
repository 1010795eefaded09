"""A door in a process of its own, and what it needs to know, published as its publishers do."""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from schemas import access_keys, budget_gates, campaign_state
from schemas.access_keys import AccessKey, KeyKind, hash_key
from schemas.budget_gates import BudgetGate, Coordinates
from schemas.campaign_state import CampaignState, Pricing
from schemas.events import TrackingEvent, decode_events
from schemas.ids import new_id
from schemas.reasons import CampaignStatus, PricingModel, Scope, Threshold
from schemas.topics import TRACKING_EVENTS
from tests.running import free_port as free_port  # noqa: PLC0414 - tests of the door take it from here

DAY_MS = 86_400_000
LONG_AGO = "01890000-0000-7000-8000-000000000000"
"""A UUIDv7 of July 2023: a campaign that cannot be on its way."""

T = TypeVar("T")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Door:
    """A running `python -m ingest`."""

    def __init__(self, process: "subprocess.Popen[bytes]", url: str, http: aiohttp.ClientSession) -> None:
        self.process = process
        self.url = url
        self.http = http

    async def status(self, path: str) -> int:
        """The status of a GET; 0 when nothing listens."""
        try:
            async with self.http.get(self.url + path) as response:
                return response.status
        except aiohttp.ClientError:
            return 0

    async def is_connected(self) -> bool:
        """Whether it is ready and can write to Kafka; being ready says only that campaigns are known."""
        return await self.status("/ready") == 200 and bool(
            await self.metric("flightline_ingest_producer_connected")
        )

    async def send(self, body: Any, key: str, **headers: str) -> tuple[int, Any]:
        """POSTs events as JSON; gives the status and the decoded answer."""
        return await self.post(msgspec.json.encode(body), key, content_type="application/json", **headers)

    async def post(
        self, body: bytes, key: str, *, content_type: str = "application/json", **headers: str
    ) -> tuple[int, Any]:
        sent = {"X-Write-Key": key, "Content-Type": content_type}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.post(f"{self.url}/v1/events", data=body, headers=sent) as response:
            content = await response.read()
            return response.status, msgspec.json.decode(content) if content else None

    async def metric(self, line: str) -> float:
        """The value of a metric, by its name and labels as `/metrics` shows them; 0 when absent."""
        async with self.http.get(f"{self.url}/metrics") as response:
            for shown in (await response.text()).splitlines():
                if shown.startswith(line + " "):
                    return float(shown.rpartition(" ")[2])
        return 0.0

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def _start(environment: dict[str, str], output: Path) -> "subprocess.Popen[bytes]":
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "ingest"], env=environment, stdout=file, stderr=subprocess.STDOUT
        )


@asynccontextmanager
async def running_door(
    kafka: str, state: Path, *, ready: bool = True, port: int | None = None, **settings: str
) -> AsyncIterator[Door]:
    """A door on a free port, ready and connected unless told otherwise, killed at the end."""
    port = port or free_port()
    environment = {
        **os.environ,
        "FLIGHTLINE_KAFKA": kafka,
        "FLIGHTLINE_BIND": f"127.0.0.1:{port}",
        "FLIGHTLINE_STATE": str(state),
        "FLIGHTLINE_GRACE_MS": "0",
        **{f"FLIGHTLINE_{name.upper()}": value for name, value in settings.items()},
    }
    process = _start(environment, state / f"door-{port}.log")
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as http:
        door = Door(process, f"http://127.0.0.1:{port}", http)
        try:
            await eventually(lambda: door.status("/health"), lambda code: code == 200, within=60)
            if ready:
                await eventually(door.is_connected, bool, within=60)
            yield door
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(10)


async def eventually(
    look: Callable[[], Awaitable[T]], holds: Callable[[T], bool], within: float = 20.0
) -> tuple[T, float]:
    """Looks until it holds; gives what was seen, and after how many seconds."""
    started = time.monotonic()
    while True:
        seen = await look()
        passed = time.monotonic() - started
        if holds(seen):
            return seen, passed
        assert passed < within, f"still {seen!r} after {passed:.1f} s"
        await asyncio.sleep(0.01)


class Publisher:
    """Publishes campaigns, gates and keys of one organization of its own."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self.organization = new_id()

    async def campaign(self, **changes: Any) -> CampaignState:
        """A running campaign, unless `changes` say otherwise."""
        state = CampaignState(
            **{
                "campaign_id": new_id(),
                "version": 1,
                "organization_id": self.organization,
                "status": CampaignStatus.ACTIVE,
                "starts_at": now_ms() - DAY_MS,
                "ends_at": now_ms() + DAY_MS,
                "pricing": Pricing(PricingModel.CPM, 2_500_000),
                "currency": "EUR",
                "budget_version": 1,
                **changes,
            }
        )
        await self._publish(campaign_state.TOPIC, state.campaign_id, state)
        return state

    async def change(self, state: CampaignState, **changes: Any) -> CampaignState:
        """The next version of a campaign."""
        changed = msgspec.structs.replace(state, **{"version": state.version + 1, **changes})
        await self._publish(campaign_state.TOPIC, changed.campaign_id, changed)
        return changed

    async def gate(self, state: CampaignState, *thresholds: Threshold, version: int = 1) -> None:
        gate = BudgetGate(
            campaign_id=state.campaign_id,
            organization_id=state.organization_id,
            version=version,
            budget_version=state.budget_version,
            thresholds=thresholds,
            billed=1,
            at=now_ms(),
            cause=Coordinates(1, 0, 0, 0),
        )
        await self._publish(budget_gates.TOPIC, state.campaign_id, gate)

    async def key(self, *scopes: Scope, kind: KeyKind = KeyKind.PUBLISHABLE, **changes: Any) -> str:
        """A new key, as its owner holds it."""
        key = secrets.token_urlsafe(32)
        await self.put_key(key, *scopes, kind=kind, **changes)
        return key

    async def put_key(
        self, key: str, *scopes: Scope, kind: KeyKind = KeyKind.PUBLISHABLE, version: int = 1, **changes: Any
    ) -> None:
        value = AccessKey(
            key_hash=hash_key(key),
            version=version,
            key_id=new_id(),
            organization_id=self.organization,
            kind=kind,
            scopes=scopes or (Scope.WRITE,),
            **changes,
        )
        await self._publish(access_keys.TOPIC, value.key_hash, value)

    async def _publish(self, topic: str, key: str, value: msgspec.Struct) -> None:
        await self._producer.send_and_wait(topic, msgspec.json.encode(value), key=key.encode())


@asynccontextmanager
async def publishing(kafka: str) -> AsyncIterator[Publisher]:
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
    await producer.start()
    try:
        yield Publisher(producer)
    finally:
        await producer.stop()


class Line(msgspec.Struct):
    """An event of the log, where it stood."""

    event: TrackingEvent
    partition: int
    offset: int


async def read_log(kafka: str, organization: str) -> list[Line]:
    """All events of the organization in the log."""
    consumer = AIOKafkaConsumer(
        TRACKING_EVENTS, bootstrap_servers=kafka, group_id=None, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        partitions = consumer.assignment()
        ends = await consumer.end_offsets(partitions)
        lines: list[Line] = []
        while any([await consumer.position(part) < ends[part] for part in partitions]):
            for part, records in (await consumer.getmany(timeout_ms=200)).items():
                lines += [
                    Line(event, part.partition, record.offset)
                    for record in records
                    for event in decode_events(record.value)
                    if event.organization_id == organization
                ]
        return lines
    finally:
        await consumer.stop()
