"""In which order transactions of the control API lock what they share: nobody waits in a circle."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from control_api.clock import utc_now
from control_api.domain.job import FileFormat, ImportMode
from control_api.errors import TooManyJobs
from control_api.handlers import jobs, organization
from control_api.handlers.actor import Actor
from control_api.handlers.automatic import complete_due
from control_api.handlers.jobs import MOST_UNFINISHED, ImportRequest
from control_api.handlers.organization import OrganizationRequest
from control_api.stores.access import LoginAttempts
from control_api.stores.database import Database
from control_api.stores.unit import PostgresUnit
from schemas.ids import new_id
from tests.integration.control import DAY, eventually
from tests.unit.control_api.samples import a_campaign

T = TypeVar("T")
ASKED = ImportRequest(FileFormat.NDJSON, ImportMode.CREATE, dry_run=False)
_WAITS = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
_HEAD = "SELECT 1 FROM control.audit_heads WHERE organization_id = $1::uuid FOR UPDATE"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(postgres_dsn: str) -> AsyncIterator[Database]:
    made = Database.of(postgres_dsn, pool_size=4)
    yield made
    made.close()


@pytest_asyncio.fixture(loop_scope="session")
async def other(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Somebody else's connection, who waits for nobody for long."""
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute("SET lock_timeout = '300ms'")
    yield connection
    await connection.close()


async def organizations(database: Database, count: int) -> list[str]:
    """In order of their ids, each with the end of an audit log."""
    made = sorted(new_id() for _ in range(count))

    async def work(unit: PostgresUnit) -> None:
        for organization_id in made:
            await unit.ensure_organization(organization_id, "o", "UTC", "EUR")

    await database.in_transaction(work)
    async with database.pool.connection() as connection:
        await connection.execute(
            "INSERT INTO control.audit_heads (organization_id, seq, hash) SELECT id, 0, '' "
            "FROM unnest($1::uuid[]) AS o (id)",
            made,
        )
    return made


@asynccontextmanager
async def waiting(database: Database, work: Awaitable[T]) -> AsyncIterator[asyncio.Future[T]]:
    """`work` while it waits for a lock; it has its end in the block."""
    task = asyncio.ensure_future(work)

    async def is_waiting() -> bool:
        if task.done():
            task.result()
            pytest.fail("it waited for nobody")
        async with database.pool.connection() as connection:
            return await connection.fetchval(_WAITS) is not None

    await eventually(is_waiting, 2)
    yield task
    assert task.done()


async def is_free(connection: asyncpg.Connection, statement: str, *values: Any) -> bool:
    """Whether nobody holds the rows of a statement that locks them."""
    try:
        async with connection.transaction():
            await connection.fetch(statement, *values)
    except asyncpg.LockNotAvailableError:
        return False
    return True


async def test_ends_of_campaigns_lock_audit_logs_in_one_order(
    database: Database, other: asyncpg.Connection
) -> None:
    low, high = await organizations(database, 2)
    now = utc_now()
    # The lower campaign is of the higher organization.
    owners = dict(zip(sorted(new_id() for _ in range(2)), (high, low), strict=True))

    async def work(unit: PostgresUnit) -> None:
        for campaign_id, owner in owners.items():
            dates = {"start_date": now - 2 * DAY, "end_date": now - DAY}
            await unit.create_campaign(a_campaign(id=campaign_id, organization_id=owner, **dates))

    await database.in_transaction(work)
    transaction = other.transaction()
    await transaction.start()
    await other.execute(_HEAD, low)
    async with waiting(database, complete_due(database, now)) as completing:
        assert await is_free(other, _HEAD, high)
        await transaction.rollback()
        assert await completing == len(owners)


async def test_who_writes_an_audit_entry_does_not_wait_for_who_changes_the_organization(
    database: Database, other: asyncpg.Connection
) -> None:
    [organization_id] = await organizations(database, 1)
    actor = Actor(user_id=new_id(), organization_id=organization_id)
    asked = OrganizationRequest(name="renamed")
    transaction = other.transaction()
    await transaction.start()
    await other.execute(_HEAD, organization_id)
    async with waiting(database, organization.replace(database, actor, asked, 1, utc_now())) as replacing:
        # It has locked the organization and waits for the end of the log, which is ours.
        await other.execute(
            "INSERT INTO control.audit (organization_id, seq, at, actor, action, subject_type, subject_id, "
            "hash) VALUES ($1::uuid, 1, now(), 'a', 'b', 'c', 'd', '')",
            organization_id,
        )
        await transaction.rollback()
        assert (await replacing).name == "renamed"


async def test_attempts_to_log_in_are_given_back_in_the_order_in_which_they_are_taken(
    database: Database, other: asyncpg.Connection
) -> None:
    attempts = LoginAttempts(database.pool, "s", per_account=5, per_address=50)
    email, buckets = await _whose_own_bucket_is_the_first(attempts, other)
    first, *rest = buckets
    lock = "SELECT 1 FROM control.login_attempts WHERE bucket = ANY ($1::bytea[]) FOR UPDATE"
    transaction = other.transaction()
    await transaction.start()
    await other.execute(lock, [first])
    async with waiting(database, attempts.give_back(email, "a")) as giving_back:
        assert await is_free(other, lock, rest)
        await transaction.rollback()
        await giving_back
    left = await other.fetch("SELECT attempts FROM control.login_attempts WHERE bucket = ANY ($1)", buckets)
    assert [row["attempts"] for row in left] == [1, 1]


async def _whose_own_bucket_is_the_first(
    attempts: LoginAttempts, connection: asyncpg.Connection
) -> tuple[str, list[bytes]]:
    """An email whose bucket with the address, which a success forgets, is the first one to be locked; its
    buckets have two attempts each, but for that one."""
    for number in range(100):
        await connection.execute("DELETE FROM control.login_attempts")
        email = f"{number}@shop.example"
        await attempts.take(email, "a", utc_now())
        before = await _buckets(connection)
        await attempts.give_back(email, "a")
        after = await _buckets(connection)
        if before[0] not in after:
            await attempts.take(email, "a", utc_now())
            await connection.execute("UPDATE control.login_attempts SET attempts = 2")
            return email, before
    raise AssertionError("no email has its own bucket first")


async def _buckets(connection: asyncpg.Connection) -> list[bytes]:
    rows = await connection.fetch("SELECT bucket FROM control.login_attempts ORDER BY bucket")
    return [row["bucket"] for row in rows]


async def test_two_imports_at_once_do_not_both_become_the_last_one(
    database: Database, other: asyncpg.Connection
) -> None:
    [organization_id] = await organizations(database, 1)
    actor = Actor(user_id=new_id(), organization_id=organization_id)
    for _ in range(MOST_UNFINISHED - 1):
        last = await jobs.receive(database, actor, ASKED, utc_now())
    transaction, unit = other.transaction(), PostgresUnit(other)
    await transaction.start()
    await unit.lock_organization(organization_id)
    async with waiting(database, jobs.receive(database, actor, ASKED, utc_now())) as receiving:
        await unit.jobs.add(msgspec.structs.replace(last, id=new_id()))
        await transaction.commit()
        with pytest.raises(TooManyJobs):
            await receiving
