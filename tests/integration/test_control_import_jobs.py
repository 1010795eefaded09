"""Jobs that import, worked on in this process: what Postgres' absence and their age do to them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import TypeVar

import asyncpg
import msgspec
import pytest_asyncio

from control_api.clock import utc_now
from control_api.domain.job import FileFormat, ImportMode, Job
from control_api.errors import Unavailable
from control_api.handlers import jobs
from control_api.handlers.actor import Actor
from control_api.handlers.jobs import ImportRequest
from control_api.jobs import imports
from control_api.stores.database import Database
from control_api.stores.unit import PostgresUnit
from schemas.ids import new_id
from tests.integration.control import DAY, body, eventually

T = TypeVar("T")
HOUR = timedelta(hours=1)


class Clock:
    """Stands still but for what the test does."""

    def __init__(self) -> None:
        self.now = utc_now()
        self.was_read = False

    def __call__(self) -> datetime:
        self.was_read = True
        return self.now


class OftenAway(Database):
    """Postgres, which goes away for an hour between a look at the clock and the transaction that follows; it
    takes the one after that."""

    clock: Clock
    hours = 0
    _is_back = False

    async def in_transaction(self, work: Callable[[PostgresUnit], Awaitable[T]]) -> T:
        if self.clock.was_read and not self._is_back:
            self.clock.now, self.clock.was_read = self.clock.now + HOUR, False
            self.hours, self._is_back = self.hours + 1, True
            raise Unavailable("away for an hour")
        try:
            return await super().in_transaction(work)
        finally:
            self.clock.was_read = self._is_back = False


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(postgres_dsn: str) -> AsyncIterator[OftenAway]:
    made = OftenAway.of(postgres_dsn, pool_size=4)
    made.clock = Clock()
    yield made
    made.close()


@pytest_asyncio.fixture(loop_scope="session")
async def rows(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_dsn)
    yield connection
    await connection.close()


async def queued(database: Database, data: bytes) -> Job:
    """A job of an organization of its own."""
    actor = Actor(user_id=new_id(), organization_id=new_id())

    async def work(unit: PostgresUnit) -> None:
        await unit.ensure_organization(actor.organization_id, "o", "UTC", "EUR")

    await database.in_transaction(work)
    asked = ImportRequest(FileFormat.NDJSON, ImportMode.CREATE, dry_run=False)
    job = await jobs.receive(database, actor, asked, utc_now())
    await jobs.add_piece(database, job, 0, data)
    await jobs.queue(database, job, len(data), utc_now())
    return job


async def test_what_is_done_after_an_outage_has_the_time_at_which_it_is_done(
    database: OftenAway, rows: asyncpg.Connection
) -> None:
    began = database.clock.now
    job = await queued(database, msgspec.json.encode(body()))
    working = asyncio.create_task(imports.run(database, database.clock))

    async def finished() -> datetime | None:
        at = "SELECT finished_at FROM control.jobs WHERE id = $1::uuid"
        found: datetime | None = await rows.fetchval(at, job.id)
        return found

    try:
        ended = await eventually(finished, 30)
    finally:
        working.cancel()
    made = "SELECT created_at FROM control.campaigns WHERE organization_id = $1::uuid"
    assert await rows.fetchval(made, job.organization_id) == began + HOUR
    assert ended == began + 2 * HOUR
    assert database.hours == 2


async def test_an_old_job_goes_with_its_errors_some_at_a_time(
    database: OftenAway, rows: asyncpg.Connection
) -> None:
    job = await queued(database, b"{}")
    count = 4_500
    await rows.execute(
        "UPDATE control.jobs SET state = 'succeeded', finished_at = now() - interval '31 days' "
        "WHERE id = $1::uuid",
        job.id,
    )
    await rows.execute(
        "INSERT INTO control.job_errors SELECT $1::uuid, n, n, '[]' FROM generate_series(1, $2::int) AS n",
        job.id,
        count,
    )

    async def forget(unit: PostgresUnit) -> bool:
        return await unit.jobs.forget(utc_now() - 30 * DAY, utc_now() - HOUR)

    left = [count]
    while await database.in_transaction(forget):
        left.append(await rows.fetchval("SELECT count(*) FROM control.job_errors"))
    assert left == [4_500, 2_500, 500]
    assert await rows.fetchval("SELECT 1 FROM control.jobs WHERE id = $1::uuid", job.id) is None
    assert await rows.fetchval("SELECT count(*) FROM control.job_errors") == 0
