"""The queries of deliveries with a long backlog: which index each uses, and how little it touches."""

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest_asyncio

from control_api.handlers.webhook_ports import Sending
from control_api.jobs.deliveries import MOST, SHARES
from control_api.stores.unit import PostgresUnit
from schemas.ids import new_id
from sql.load import ROOT
from tests.running import RunningStack

WEBHOOKS, OF_EACH, WAITING = 1_000, 300, 100_000
BUSY = "01900000-0000-7000-8000-000000000001"
TABLE = "webhook_deliveries"
_FILL = f"""
    SET synchronous_commit = off;
    INSERT INTO control.organizations (id, name) VALUES ('{BUSY}', 'o');
    INSERT INTO control.webhooks (id, organization_id, url, active_since, secret, created_by, created_at,
        updated_by, updated_at)
    SELECT ('01900000-0000-7000-8000-' || lpad(w::text, 12, '0'))::uuid, '{BUSY}', 'https://a.example', now(),
        '', '{BUSY}', now(), '{BUSY}', now()
    FROM generate_series(1, {WEBHOOKS}) AS w;
    INSERT INTO control.webhook_deliveries (id, webhook_id, organization_id, event_id, event_type, subject,
        payload, state, next_attempt_at, created_at)
    SELECT gen_random_uuid(), w.id, w.organization_id, gen_random_uuid(), 't', 's', '',
        (ARRAY['DELIVERED', 'DEAD'])[1 + n % 2], now(), now()
    FROM control.webhooks AS w CROSS JOIN generate_series(1, {OF_EACH}) AS n;
    INSERT INTO control.webhook_deliveries (id, webhook_id, organization_id, event_id, event_type, subject,
        payload, next_attempt_at, created_at)
    SELECT gen_random_uuid(), '{BUSY}', '{BUSY}', gen_random_uuid(), 't', 's', '', now() - interval '1 h',
        now()
    FROM generate_series(1, {WAITING});
    ANALYZE control.webhooks, control.webhook_deliveries;
"""  # noqa: S608  numbers of our own


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def filled(engines: RunningStack) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(await engines.fresh_postgres())
    await connection.execute(_FILL, timeout=250)
    yield connection
    await connection.close()


def statement(name: str, values: dict[str, Any]) -> tuple[str, list[Any]]:
    """A named query with Postgres' own parameters."""
    text = (ROOT / "postgres" / "queries" / "control_deliveries.sql").read_text()
    found = re.search(rf"^-- name: {name}\W?\n(.*?)(?=^-- name:|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, name
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        names.append(match[1]) if match[1] not in names else None
        return f"${names.index(match[1]) + 1}"

    numbered = re.sub(r"(?<!:):([a-z_]+)", number, found[1]).strip().rstrip(";")
    return numbered, [values[one] for one in names]


async def plan_of(connection: asyncpg.Connection, name: str, **values: Any) -> list[dict[str, Any]]:
    """The scans of the table of deliveries that a query makes; what it writes is rolled back."""
    text, ordered = statement(name, values)
    transaction = connection.transaction()
    await transaction.start()
    try:
        shown = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", *ordered)
    finally:
        await transaction.rollback()
    return [node for node in nodes(json.loads(shown)[0]["Plan"]) if is_scan(node)]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)


def is_scan(node: dict[str, Any]) -> bool:
    return "Scan" in node["Node Type"] and (
        node.get("Relation Name") == TABLE or str(node.get("Index Name", "")).startswith(TABLE)
    )


def rows(scans: list[dict[str, Any]]) -> float:
    return sum(
        (scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0)) * scan["Actual Loops"] for scan in scans
    )


async def test_a_claim_reads_a_few_rows_of_each_webhook_however_long_a_backlog_is(
    filled: asyncpg.Connection,
) -> None:
    now = datetime.now(UTC)
    scans = await plan_of(
        filled,
        "claim",
        now=now,
        lease=now + timedelta(minutes=1),
        each=SHARES.webhook,
        each_organization=SHARES.organization,
        most=MOST,
        busy_webhooks=[BUSY],
        busy_counts=[1],
        busy_organizations=[BUSY],
        organization_counts=[1],
        claim=new_id(),
    )
    assert scans
    assert not [scan for scan in scans if scan["Node Type"] == "Seq Scan"]
    assert rows(scans) <= 10 * SHARES.webhook


async def test_pages_and_dead_letters_are_read_by_their_index(filled: asyncpg.Connection) -> None:
    last = "ffffffff-ffff-ffff-ffff-ffffffffffff"
    page = await plan_of(filled, "list_deliveries", webhook_id=BUSY, before=last, most=51)
    assert {scan["Index Name"] for scan in page} == {f"{TABLE}_list"}
    assert rows(page) <= 60
    page = await plan_of(filled, "list_deliveries_in", webhook_id=BUSY, state="DEAD", before=last, most=51)
    assert {scan["Index Name"] for scan in page} == {f"{TABLE}_state"}
    assert rows(page) <= 60
    dead = await plan_of(filled, "redeliver_dead", webhook_id=BUSY, now=datetime.now(UTC), most=10)
    assert not [scan for scan in dead if scan["Node Type"] == "Seq Scan"]
    assert rows(dead) <= 10 * 5
    old = await plan_of(filled, "forget_deliveries", before=datetime(2020, 1, 1, tzinfo=UTC), most=1_000)
    assert not [scan for scan in old if scan["Node Type"] == "Seq Scan"]


async def test_a_long_backlog_is_given_up_in_parts(filled: asyncpg.Connection) -> None:
    scans = await plan_of(filled, "give_up_pending", webhook_id=BUSY, error="e", most=20)
    assert not [scan for scan in scans if scan["Node Type"] == "Seq Scan"]
    assert rows(scans) <= 3 * 20
    transaction = filled.transaction()
    await transaction.start()
    try:
        await filled.execute(
            "UPDATE control.webhooks SET active = false, inactive_reason = 'GONE' WHERE id = $1", BUSY
        )
        await filled.execute("DELETE FROM control.webhooks WHERE id::text LIKE '%0002'")
        unit, before = PostgresUnit(filled), await _pending(filled)
        await unit.deliveries.give_up_pending(BUSY, "e")
        assert await _pending(filled) == before - 2_000
        assert await unit.deliveries.give_up_unsendable(gone="g", deactivated="d")
        assert await _pending(filled) == before - 4_000
        while await unit.deliveries.give_up_unsendable(gone="g", deactivated="d"):
            pass
        assert await _pending(filled) == 0
        errors = await filled.fetch(
            "SELECT error, count(*) AS n FROM control.webhook_deliveries GROUP BY error"
        )
        assert {row["error"]: row["n"] for row in errors if row["error"]} == {
            "e": 2_000,
            "g": WAITING - 2_000,
        }
    finally:
        await transaction.rollback()


async def _pending(connection: asyncpg.Connection) -> int:
    found = "SELECT count(*) FROM control.webhook_deliveries WHERE state = 'PENDING'"
    return int(await connection.fetchval(found))


async def test_only_what_waits_for_a_webhook_that_is_not_active_is_given_up(
    filled: asyncpg.Connection,
) -> None:
    scans = await plan_of(filled, "give_up_unsendable", gone="g", deactivated="d", most=2_000)
    assert not [scan for scan in scans if scan["Node Type"] == "Seq Scan"]
    assert rows(scans) <= 10
    before = await _pending(filled)
    assert not await PostgresUnit(filled).deliveries.give_up_unsendable(gone="g", deactivated="d")
    assert await _pending(filled) == before


async def test_an_organization_has_its_share_of_what_is_sent(filled: asyncpg.Connection) -> None:
    other, now = new_id(), datetime.now(UTC)
    webhooks = [str(row["id"]) for row in await filled.fetch("SELECT id FROM control.webhooks ORDER BY id")]
    transaction = filled.transaction()
    await transaction.start()
    try:
        await filled.execute("INSERT INTO control.organizations (id, name) VALUES ($1, 'other')", other)
        await filled.execute(
            "UPDATE control.webhooks SET organization_id = $1 WHERE id = $2", other, webhooks[-1]
        )
        await filled.execute(_DUE, webhooks[1 : MOST + 1], now - timedelta(hours=2))
        await filled.execute(_DUE, [webhooks[-1]], now)
        deliveries = PostgresUnit(filled).deliveries
        busy = Sending({webhooks[1]: 4}, {BUSY: 4})
        claimed = await deliveries.claim(now=now, lease=now, most=MOST, shares=SHARES, sending=busy)
        assert Counter(one.organization_id for one in claimed) == {BUSY: SHARES.organization - 4, other: 1}
        assert webhooks[1] not in {one.webhook_id for one in claimed}
    finally:
        await transaction.rollback()


_DUE = """
    INSERT INTO control.webhook_deliveries (id, webhook_id, organization_id, event_id, event_type, subject,
        payload, next_attempt_at, created_at)
    SELECT gen_random_uuid(), w.id, w.organization_id, gen_random_uuid(), 't', 's', '', $2, $2
    FROM control.webhooks AS w
    WHERE w.id = ANY ($1::uuid[])
"""
"""One more delivery to each of these webhooks."""


async def test_a_backlog_is_counted_up_to_a_bound(filled: asyncpg.Connection) -> None:
    text, values = statement("backlog", {"most": 1_000})
    counted = await filled.fetchrow(text, *values)
    assert counted is not None
    assert counted["pending"] == 1_000
    assert rows(await plan_of(filled, "backlog", most=1_000)) <= 1_100
