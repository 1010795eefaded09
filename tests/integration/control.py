"""A control API in a process of its own, a client for it, and the other sides of its contracts."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import aiohttp
import asyncpg
import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from multidict import CIMultiDict

from compose.process import die_with_parent
from control_api.bootstrap import Bootstrap, bootstrap, mint_admin_token
from control_api.settings import load
from schemas import budget_gates
from schemas.budget_gates import BudgetGate, Coordinates
from schemas.ids import new_id
from schemas.reasons import Threshold
from tests.running import free_port

SECRET = "integration-secret-integration-secret"
DAY = timedelta(days=1)
T = TypeVar("T")


def now() -> datetime:
    return datetime.now(UTC)


def body(**changes: Any) -> dict[str, Any]:
    """The specification's example of a create request, with dates to come and a name of its own."""
    return {
        "name": f"Summer Sale {new_id()}",
        "description": "Summer promotion campaign with 20% discount",
        "type": "PROMOTION",
        "targetingRules": ["rule-123", "rule-456"],
        "startDate": (now() + DAY).isoformat(),
        "endDate": (now() + 30 * DAY).isoformat(),
        "budget": {"amount": 10000.00, "currency": "EUR"},
        "settings": {
            "targetAudience": ["segment-1", "segment-2"],
            "channels": ["EMAIL", "WEB", "PUSH"],
            "frequency": "WEEKLY",
            "maxImpressions": 100000,
            "pricing": {"model": "CPM", "price": {"amount": 2.5, "currency": "EUR"}},
            "personalization": {"enabled": True, "rules": ["personalization-rule-1"]},
        },
    } | changes


class Answer(NamedTuple):
    """What came back: `body` is the decoded JSON, None when there is none."""

    status: int
    headers: CIMultiDict[str]
    body: Any


class ControlApi:
    """A running `python -m control_api`, and the way to it as the admin of an organization."""

    def __init__(self, environ: dict[str, str], made: Bootstrap, log: Path) -> None:
        self.url = f"http://{environ['FLIGHTLINE_BIND']}"
        self.made = made
        self.dsn = environ["FLIGHTLINE_POSTGRES"]
        self.kafka = environ["FLIGHTLINE_KAFKA"]
        self._environ = environ
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._http = aiohttp.ClientSession()

    async def start(self, path: str | None = "/ready") -> None:
        """Returns when this path is answered with 200; without one at once."""
        self._launch()
        if path is not None:
            await eventually(lambda: self._answers(path), 60)

    def _launch(self) -> None:
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "control_api"],
                env=os.environ | self._environ,
                stdout=out,
                stderr=out,
                preexec_fn=die_with_parent(signal.SIGTERM, os.getpid()),  # noqa: PLW1509 - a system call only
            )

    def stop(self) -> int:
        """Asks it to end; returns its exit code."""
        self.terminate()
        return self.wait(20)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def terminate(self) -> None:
        """Asks it to end."""
        assert self._process is not None
        self._process.terminate()

    def wait(self, seconds: float) -> int:
        """Its exit code, when it ends within so long; TimeoutExpired when it does not."""
        assert self._process is not None
        return self._process.wait(seconds)

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    async def close(self) -> None:
        """Ends everything."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(5)
        await self._http.close()

    async def call(
        self, method: str, path: str, json: Any = None, *, token: str | None = None, **options: Any
    ) -> Answer:
        """A request under /api/v1 with the admin's token; `data=` sends bytes as they are."""
        headers = {"Authorization": f"Bearer {token or self.made.admin_token}"} | options.pop("headers", {})
        return await self.bare(method, path, json, headers=headers, **options)

    async def bare(self, method: str, path: str, json: Any = None, **options: Any) -> Answer:
        """A request under /api/v1 with the headers that are given and no others."""
        url = f"{self.url}/api/v1{path}"
        async with self._http.request(method, url, json=json, **options) as response:
            text = await response.read()
            kind = response.headers.get("Content-Type", "")
            is_json = "json" in kind and "ndjson" not in kind
            return Answer(
                response.status,
                CIMultiDict(response.headers),
                msgspec.json.decode(text) if is_json else text or None,
            )

    async def text(self, path: str) -> str:
        """The body of a GET under /api/v1 as it is written."""
        headers = {"Authorization": f"Bearer {self.made.admin_token}"}
        async with self._http.get(f"{self.url}/api/v1{path}", headers=headers) as response:
            return await response.text()

    async def page(self, path: str) -> Answer:
        """A GET outside /api/v1, without a token."""
        async with self._http.get(self.url + path) as response:
            return Answer(response.status, CIMultiDict(response.headers), await response.text())

    async def create(self, **changes: Any) -> dict[str, Any]:
        """A new campaign."""
        answer = await self.call("POST", "/campaigns", body(**changes))
        assert answer.status == 201, answer
        return dict(answer.body)

    async def active(self, **changes: Any) -> dict[str, Any]:
        """A new campaign that runs since now."""
        campaign = await self.create(**changes)
        answer = await self.call("POST", f"/campaigns/{campaign['id']}/activate", {"startNow": True})
        assert answer.status == 200, answer
        return dict(answer.body)

    async def get(self, campaign_id: str) -> dict[str, Any]:
        """A campaign as it is now."""
        answer = await self.call("GET", f"/campaigns/{campaign_id}")
        assert answer.status == 200, answer
        return dict(answer.body)

    async def put(self, campaign: dict[str, Any], **changes: Any) -> Answer:
        """Sends a campaign back with changes, on the version that it was read in."""
        headers = {"If-Match": f'"{campaign["version"]}"'}
        return await self.call("PUT", f"/campaigns/{campaign['id']}", campaign | changes, headers=headers)

    async def until_status(self, campaign_id: str, status: str, within: float = 15) -> dict[str, Any]:
        """Waits until the campaign has the status."""

        async def look() -> dict[str, Any] | None:
            found = await self.get(campaign_id)
            return found if found["status"] == status else None

        return await eventually(look, within)

    async def other_organization(self) -> str:
        """A token of another organization's admin."""
        organization, admin = new_id(), new_id()
        await bootstrap(
            load(self._environ),
            organization_id=organization,
            admin_id=admin,
            organization_name="Other",
        )
        return mint_admin_token(SECRET, organization, admin, now=now())

    async def sql(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        """What another party does in the database."""
        connection = await asyncpg.connect(self.dsn)
        try:
            return list(await connection.fetch(statement, *values))
        finally:
            await connection.close()

    async def spend(self, campaign_id: str, billed: int, *, impressions: int = 1) -> None:
        """What the aggregator would write for a billed batch (micros)."""
        await self.sql(
            "UPDATE ledger.accounts SET billed = $2, impressions = $3, billable_impressions = $3, "
            "last_received_at = now() WHERE campaign_id = $1::uuid",
            campaign_id,
            billed,
            impressions,
        )

    async def cross(self, campaign: dict[str, Any], *thresholds: Threshold, version: int = 1) -> None:
        """A gate as the aggregator publishes it, with its crossings in the ledger."""
        for threshold in thresholds:
            await self.sql(
                "INSERT INTO ledger.crossings VALUES ($1::uuid, $2, $3, 1, now(), 0, 0, 0, 0) "
                "ON CONFLICT DO NOTHING",
                campaign["id"],
                campaign["budgetVersion"],
                threshold.value,
            )
        gate = BudgetGate(
            campaign_id=campaign["id"],
            organization_id=self.made.organization_id,
            version=version,
            budget_version=campaign["budgetVersion"],
            thresholds=thresholds,
            billed=1,
            at=int(time.time() * 1000),
            cause=Coordinates(0, 0, 0, 0),
        )
        producer = AIOKafkaProducer(bootstrap_servers=self.kafka)
        await producer.start()
        try:
            key = campaign["id"].encode()
            await producer.send_and_wait(budget_gates.TOPIC, msgspec.json.encode(gate), key=key)
        finally:
            await producer.stop()

    async def records(self, topic: str, key: str) -> list[Any]:
        """Every value of a key in a topic until now, decoded."""
        return [msgspec.json.decode(value or b"") for value in await self.raw(topic, key)]

    async def values(self, topic: str, key: str) -> list[Any]:
        """The same without tombstones and what can't be decoded."""
        decoded = []
        for value in await self.raw(topic, key):
            with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                decoded.append(msgspec.json.decode(value or b""))
        return decoded

    async def raw(self, topic: str, key: str) -> list[bytes | None]:
        """Every value of a key in a topic until now, as it is."""
        return [value for found, value in await self.all(topic) if found == key.encode()]

    async def lasts(self, topic: str) -> dict[str, int]:
        """The version of the last value of each key."""
        return {
            (key or b"").decode(): msgspec.json.decode(value)["version"]
            for key, value in await self.all(topic)
            if value is not None
        }

    async def all(self, topic: str) -> list[tuple[bytes | None, bytes | None]]:
        """Every key and value of a topic until now, in the order of each partition."""
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=self.kafka, auto_offset_reset="earliest")
        await consumer.start()
        try:
            partitions = consumer.assignment()
            ends = await consumer.end_offsets(partitions)
            await consumer.seek_to_beginning(*partitions)
            values: list[tuple[bytes | None, bytes | None]] = []
            while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    values += [(record.key, record.value) for record in batch]
            return values
        finally:
            await consumer.stop()

    async def _answers(self, path: str) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        try:
            return (await self.page(path)).status == 200
        except aiohttp.ClientError:
            return False

    @property
    def log(self) -> str:
        """All that it has logged."""
        return self._log.read_text()


async def eventually(look: Callable[[], Awaitable[T]], within: float) -> T:
    """Polls until what it looks at is there."""
    deadline = time.monotonic() + within
    while True:
        if found := await look():
            return found
        assert time.monotonic() < deadline, f"not within {within} s"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def running_control_api(
    kafka: str, dsn: str, folder: Path, path: str | None = "/ready", **settings: str
) -> AsyncIterator[ControlApi]:
    """A control API on its own port, with an organization and its admin; `settings` are variables of its own
    environment. Returns when `path` is answered with 200; without one at once."""
    environ = {
        "FLIGHTLINE_KAFKA": kafka,
        "FLIGHTLINE_POSTGRES": dsn,
        "FLIGHTLINE_BIND": f"127.0.0.1:{free_port()}",
        "FLIGHTLINE_JWT_SECRET": SECRET,
        "FLIGHTLINE_BODY_MS": "2000",
    } | settings
    made = await bootstrap(load(environ))
    api = ControlApi(environ, made, folder / "control_api.log")
    try:
        await api.start(path)
        yield api
    finally:
        await api.close()
