"""What is looked for again and again does not grow with what is long over."""

from collections.abc import AsyncIterator

import asyncpg
import pytest_asyncio

from control_api.clock import utc_now
from control_api.jobs.crossings import LATE, LOOKED_BACK
from control_api.stores.database import Database
from control_api.stores.unit import PostgresUnit
from schemas.ids import new_id
from sql.load import postgres_queries
from tests.integration.control import DAY
from tests.unit.control_api.samples import a_campaign

_queries = postgres_queries("control_campaigns")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(postgres_dsn: str) -> AsyncIterator[Database]:
    made = Database.of(postgres_dsn, pool_size=2)
    yield made
    made.close()


@pytest_asyncio.fixture(loop_scope="session")
async def rows(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection whose plans read tables only by their indexes, as large ones are."""
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
    yield connection
    await connection.close()


async def campaigns(database: Database, count: int) -> list[str]:
    made, organization_id = [new_id() for _ in range(count)], new_id()

    async def work(unit: PostgresUnit) -> None:
        await unit.ensure_organization(organization_id, "o", "UTC", "EUR")
        for campaign_id in made:
            await unit.create_campaign(
                a_campaign(id=campaign_id, organization_id=organization_id, name=campaign_id)
            )

    await database.in_transaction(work)
    return made


async def test_crossings_of_long_ago_are_looked_at_no_more(
    database: Database, rows: asyncpg.Connection
) -> None:
    now = utc_now()
    old, young = await campaigns(database, 2)
    for campaign_id, at in ((old, now - LOOKED_BACK - DAY), (young, now - LOOKED_BACK + DAY)):
        await rows.execute(
            "INSERT INTO ledger.crossings VALUES ($1::uuid, 1, '100', 5, $2, 0, 0, 0, 0, $2)", campaign_id, at
        )
    found = await database.unfollowed_crossings(now - LOOKED_BACK, now - LATE, 10)
    assert [gate.campaign_id for gate in found] == [young]
    plan = await rows.fetch(
        "EXPLAIN SELECT 1 FROM ledger.crossings WHERE crossed_at > now() - interval '1 day'"
    )
    assert "crossings_by_time" in str(plan)


async def test_what_was_deleted_before_its_end_is_not_in_the_index_of_what_is_due(
    rows: asyncpg.Connection,
) -> None:
    definition = await rows.fetchval("SELECT pg_get_indexdef('control.idx_campaigns_due'::regclass)")
    assert "deleted_at IS NULL" in definition
    text = _queries.lock_due_accounts.sql.replace("$1", "now()").replace("$2", "50")
    assert "idx_campaigns_due" in str(await rows.fetch(f"EXPLAIN {text}"))
