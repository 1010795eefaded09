"""The reads of the control API at a million campaigns: which index each uses, and how little it touches."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from control_api.handlers.listing import ListQuery, SortKey, contains_pattern
from control_api.stores.listing import list_statement
from sql.load import postgres_queries
from tests.running import RunningStack

CAMPAIGNS, ORGANIZATIONS = 1_000_000, 2_000
OF_ONE = CAMPAIGNS // ORGANIZATIONS
ORGANIZATION = "01900000-0000-7000-8000-000000000007"
PAGE = 50
_FILL = f"""
    SET synchronous_commit = off;
    SET session_replication_role = replica;
    SET maintenance_work_mem = '256MB';
    INSERT INTO control.organizations (id, name)
    SELECT ('01900000-0000-7000-8000-' || lpad(o::text, 12, '0'))::uuid, 'o' || o
    FROM generate_series(0, {ORGANIZATIONS} - 1) AS o;
    INSERT INTO control.campaigns (id, organization_id, name, status, type, start_date, end_date, currency,
        budget_amount, budget_currency, created_by, created_at, updated_at)
    SELECT ('01910000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid,
        ('01900000-0000-7000-8000-' || lpad((n % {ORGANIZATIONS})::text, 12, '0'))::uuid,
        'Sale ' || n * 7919 % {CAMPAIGNS},
        (ARRAY['DRAFT', 'ACTIVE', 'PAUSED', 'COMPLETED'])[1 + n / {ORGANIZATIONS} % 4],
        'PROMOTION', t.at, CASE WHEN n % 3 > 0 THEN t.at + interval '30 days' END, 'EUR',
        CASE WHEN n % 7 > 0 THEN 100 + n * 31 % 1000 END, CASE WHEN n % 7 > 0 THEN 'EUR' END,
        '01900000-0000-7000-8000-000000000002', t.at, t.at
    FROM generate_series(0::bigint, {CAMPAIGNS} - 1) AS n
    CROSS JOIN LATERAL (
        SELECT timestamptz '2026-01-01 00:00+00' + n * 7907 % {CAMPAIGNS} * interval '10 s' AS at
    ) AS t;
    INSERT INTO ledger.accounts (campaign_id, organization_id, currency)
    SELECT id, organization_id, currency FROM control.campaigns;
"""  # noqa: S608  numbers of our own
_INDEXES = """
    SELECT indexname, indexdef FROM pg_indexes
    WHERE schemaname = 'control' AND tablename = 'campaigns' AND indexname <> 'campaigns_pkey'
"""
INDEX_OF = {
    SortKey.NAME: "campaigns_by_name",
    SortKey.STATUS: "campaigns_by_status",
    SortKey.CREATED_AT: "idx_campaigns_created",
    SortKey.UPDATED_AT: "idx_campaigns_updated",
    SortKey.START_DATE: "campaigns_by_start",
    SortKey.END_DATE: "campaigns_by_end",
    SortKey.BUDGET: "campaigns_by_budget",
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def filled(engines: RunningStack) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(await engines.fresh_postgres())
    await fill(connection)
    yield connection
    await connection.close()


async def fill(connection: asyncpg.Connection) -> None:
    """A million campaigns with their accounts; indexes are made afterwards, which is quicker."""
    indexes = await connection.fetch(_INDEXES)
    for index in indexes:
        await connection.execute(f"DROP INDEX control.{index['indexname']}")
    await connection.execute(_FILL, timeout=280)
    for index in indexes:
        await connection.execute(index["indexdef"], timeout=100)
    await connection.execute("ANALYZE control.campaigns, ledger.accounts", timeout=100)


class Touched(msgspec.Struct):
    """What a query has read: the indexes, the rows that its scans gave on, and pages of 8 KiB."""

    indexes: set[str]
    rows: float
    pages: int


async def touched(connection: asyncpg.Connection, text: str, values: list[Any], mode: str) -> Touched:
    """Runs it as the service does, with a plan for these values or for any."""
    await connection.execute(f"SET plan_cache_mode = {mode}")
    await connection.execute(f"PREPARE asked AS {text}")
    given = f"({', '.join(map(_literal, values))})" if values else ""
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE asked{given}"
    try:
        (plan,) = json.loads(await connection.fetchval(explain))
    finally:
        await connection.execute("DEALLOCATE asked")
    nodes = list(_nodes(plan["Plan"]))
    assert not [node for node in nodes if node["Node Type"] == "Seq Scan"], plan
    scans = [node for node in nodes if "Index Name" in node]
    read = sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in scans
    )
    pages = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
    return Touched({node["Index Name"] for node in scans}, read, pages)


def _literal(value: Any) -> str:
    if isinstance(value, list):
        value = "{" + ",".join(map(str, value)) + "}"
    return "'" + str(value).replace("'", "''") + "'"


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


MODES = ("force_custom_plan", "force_generic_plan")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", SortKey)
async def test_a_page_reads_its_own_rows_in_every_order(
    filled: asyncpg.Connection, sort: SortKey, descending: bool, mode: str
) -> None:
    first = ListQuery(organization_id=ORGANIZATION, sort=sort, descending=descending, page_size=PAGE)
    rows = await filled.fetch(*_call(first))
    last = rows[-1]
    second = msgspec.structs.replace(first, after_key=last["sort_key"], after_id=str(last["id"]))
    for query in (first, second):
        found = await touched(filled, *list_statement(query), mode)
        assert found.indexes == {INDEX_OF[sort]}
        assert found.rows <= PAGE
        assert found.pages <= 4 * PAGE
    with_metrics = msgspec.structs.replace(second, with_metrics=True)
    found = await touched(filled, *list_statement(with_metrics), mode)
    assert found.indexes >= {INDEX_OF[sort], "accounts_pkey"}
    assert found.rows <= 3 * PAGE
    assert found.pages <= 20 * PAGE


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", SortKey)
async def test_pages_in_every_order_have_each_campaign_once(
    filled: asyncpg.Connection, sort: SortKey, descending: bool
) -> None:
    query = ListQuery(organization_id=ORGANIZATION, sort=sort, descending=descending, page_size=170)
    seen: list[asyncpg.Record] = []
    while rows := await filled.fetch(*_call(query)):
        seen += rows
        last = rows[-1]
        query = msgspec.structs.replace(query, after_key=last["sort_key"], after_id=str(last["id"]))
    assert len(seen) == len({row["id"] for row in seen}) == OF_ONE
    ordered = sorted(seen, key=_KEYS[sort], reverse=descending)
    assert [row["id"] for row in seen] == [row["id"] for row in ordered]


_NEVER, _WITHOUT = datetime.max.replace(tzinfo=UTC), float("inf")
_KEYS: dict[SortKey, Any] = {
    SortKey.NAME: lambda row: (row["name"].lower(), row["id"]),
    SortKey.STATUS: lambda row: (row["status"], row["id"]),
    SortKey.CREATED_AT: lambda row: (row["created_at"], row["id"]),
    SortKey.UPDATED_AT: lambda row: (row["updated_at"], row["id"]),
    SortKey.START_DATE: lambda row: (row["start_date"], row["id"]),
    SortKey.END_DATE: lambda row: (row["end_date"] or _NEVER, row["id"]),
    SortKey.BUDGET: lambda row: (row["budget_amount"] or _WITHOUT, row["id"]),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "filters",
    [
        {"pattern": contains_pattern("nowhere")},
        {"statuses": ["CANCELLED"]},
        {"types": ["COUPON"], "channels": ["WEB"]},
        {"created_after": datetime(2030, 1, 1, tzinfo=UTC)},
        {"ends_before": datetime(2020, 1, 1, tzinfo=UTC), "starts_after": datetime(2019, 1, 1, tzinfo=UTC)},
    ],
    ids="+".join,
)
async def test_a_filter_that_finds_nothing_looks_at_no_other_organization(
    filled: asyncpg.Connection, filters: dict[str, Any], mode: str
) -> None:
    query = ListQuery(organization_id=ORGANIZATION, page_size=PAGE, **filters)
    found = await touched(filled, *list_statement(query), mode)
    assert found.rows <= OF_ONE
    assert found.pages <= 3 * OF_ONE


@pytest.mark.parametrize("mode", MODES)
async def test_one_campaign_is_found_by_its_key(filled: asyncpg.Connection, mode: str) -> None:
    campaign = await filled.fetchval(
        "SELECT id FROM control.campaigns WHERE organization_id = $1::uuid LIMIT 1", ORGANIZATION
    )
    for text, values in (
        (postgres_queries("control_campaigns").get_campaign.sql, [campaign, ORGANIZATION]),
        (postgres_queries("control_campaigns").name_is_taken.sql, [ORGANIZATION, "Sale 1", campaign]),
        (postgres_queries("control_live").states_of.sql, [[campaign]]),
        (postgres_queries("control_campaigns").lock_due_accounts.sql, [datetime(2020, 1, 1, tzinfo=UTC), 50]),
    ):
        found = await touched(filled, text, values, mode)
        assert found.rows <= 4
        assert found.pages <= 40


def _call(query: ListQuery) -> tuple[Any, ...]:
    text, values = list_statement(query)
    return text, *values
