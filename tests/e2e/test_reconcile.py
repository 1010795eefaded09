# ruff: noqa: S608  the statements are made of this file's own words
"""Whatever is altered or removed behind the pipeline's back is found, and named by its coordinates."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import clickhouse_connect
import msgspec
import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from clickhouse_connect.driver.asyncclient import AsyncClient

from compose.ready import Ready
from compose.reconcile.reconcile import Outcome, Reconciliation
from schemas.topics import TRACKING_EVENTS
from tests.e2e.replays import control_api, eventually, flightline, running_campaign
from tests.running import RunningStack, running_stack, scratch

ROWS = 400
_MUTATE = "SETTINGS mutations_sync = 2"


@pytest.fixture(scope="module")
def own_stack() -> Iterator[RunningStack]:
    """A stack that no other test sees: its books are going to be cooked.

    Blocks are verified soon after they are stored: the aggregator must not mend what a test has altered.
    """
    soon = {"FLIGHTLINE_VERIFY_AFTER_SECONDS": "1"}
    with scratch() as path, running_stack(path / "state", env=soon) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def promises(own_stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was promised for a campaign whose budget was used up, with events unbilled after it, duplicates,
    and a campaign without a budget beside it."""
    folder = tmp_path_factory.mktemp("replay")
    rows = folder / "rows.csv"
    rows.write_text("id,click\n" + "".join(f"{n},{n % 10}\n" for n in range(ROWS)))
    kept = folder / "promises"
    async with control_api(own_stack) as api:
        small = await running_campaign(api, own_stack, "small", budget="1.00")
        other = await running_campaign(api, own_stack, "other", model="CPM", price="2.5")

        async def replay(*arguments: str) -> None:
            output = await flightline("replay", rows, *arguments, "--promises", kept, stack=own_stack)
            assert output.code == 0, output.text

        # One request: all of it is promised before the door can close, so some is overdelivery.
        await replay("--campaign", small.id, "--set", "cost=0.003", "--batch", "1000")

        async def is_completed() -> bool:
            return (await api.get(small.id)).status == "COMPLETED"

        await eventually(is_completed, 30, "the small campaign is completed")
        await replay("--campaign", small.id, "--event-id", "id", "--type", "BOUNCE")
        await replay("--campaign", other.id, "--also", "CLICK:click=1")
        await replay("--campaign", other.id, "--also", "CLICK:click=1")
    await all_verified(own_stack)
    return kept


async def all_verified(stack: RunningStack) -> None:
    """Waits until all that is billed is stored and verified: from then on the aggregator lets it be."""
    left = """
        SELECT (SELECT count(*) FROM ledger.blocks WHERE verified_at IS NULL)
             + (SELECT count(*) FROM ledger.partitions WHERE blocked_offset < next_offset)
    """
    connection = await asyncpg.connect(stack.ready.postgres)
    try:

        async def is_verified() -> bool:
            return (await connection.fetchval(left)) == 0

        await eventually(is_verified, 60, "all blocks are verified")
    finally:
        await connection.close()


async def reconcile(stack: RunningStack, *promises: Path, timeout_s: float = 30) -> Outcome:
    ready = msgspec.json.decode(stack.ready_file.read_bytes(), type=Ready)
    async with asyncio.timeout(120):
        return await Reconciliation(ready, promises, timeout_s, lambda _: None).run()


def lines_of(file: Path) -> list[bytes]:
    return file.read_bytes().splitlines(keepends=True)


def told(outcome: Outcome) -> str:
    return "\n".join(map(str, outcome.differences))


@asynccontextmanager
async def altered_ledger(stack: RunningStack, table: str, *statements: str) -> AsyncIterator[None]:
    """The table as it is after the statements; within the block only."""
    connection = await asyncpg.connect(stack.ready.postgres)
    try:
        await connection.execute(f"CREATE TEMP TABLE kept AS SELECT * FROM {table}")
        for statement in statements:
            assert await connection.execute(statement) not in {"UPDATE 0", "DELETE 0"}, statement
        yield
    finally:
        async with connection.transaction():
            await connection.execute(f"DELETE FROM {table}")
            await connection.execute(f"INSERT INTO {table} SELECT * FROM kept")
        await connection.close()


@asynccontextmanager
async def clickhouse(stack: RunningStack) -> AsyncIterator[AsyncClient]:
    client = await clickhouse_connect.get_async_client(dsn=stack.ready.clickhouse)
    try:
        yield client
    finally:
        await client.close()


async def test_what_nobody_touched_agrees(own_stack: RunningStack, promises: Path) -> None:
    output = await flightline("reconcile", "--promises", promises, stack=own_stack)
    assert output.code == 0, output.text
    assert "all agree" in output.text
    outcome = await reconcile(own_stack, promises)
    assert outcome.projections_compared
    ledger = sorted(outcome.snapshot.figures.values(), key=lambda figures: figures.billed or 0)
    assert [figures.billed for figures in ledger] == [1_000_000, 1_000_000]
    assert sorted(figures.overdelivery or 0 for figures in ledger) == [0, 200_000]
    assert sorted(figures.duplicates or 0 for figures in ledger) == [0, ROWS + ROWS // 10]


_ANY_BATCH = "(partition, first_offset) IN (SELECT partition, first_offset FROM {} LIMIT 1)"


@pytest.mark.parametrize(
    ("table", "statement", "kind"),
    [
        ("accounts", "UPDATE ledger.accounts SET impressions = impressions + 1", "impressions differ"),
        ("accounts", "UPDATE ledger.accounts SET billed = billed - 1", "billed differ"),
        ("accounts", "UPDATE ledger.accounts SET overdelivery = overdelivery + 1", "overdelivery differ"),
        ("accounts", "UPDATE ledger.accounts SET duplicates = duplicates + 1", "duplicates differ"),
        ("accounts", "UPDATE ledger.accounts SET budget = billed - 1", "billed above the budget"),
        ("accounts", "DELETE FROM ledger.accounts", "account missing in the ledger"),
        ("unbilled", "DELETE FROM ledger.unbilled", "unbilled differ"),
        (
            "crossings",
            "DELETE FROM ledger.crossings WHERE threshold = '90'",
            "crossing missing in the ledger",
        ),
        ("crossings", "UPDATE ledger.crossings SET billed = 1", "altered crossing in the ledger"),
        ("partitions", "UPDATE ledger.partitions SET next_offset = next_offset - 1", "not billed to its end"),
        ("partitions", "DELETE FROM ledger.partitions", "not billed to its end"),
        ("batches", f"UPDATE ledger.batches SET billed = billed + 1 WHERE {_ANY_BATCH}", "altered batch"),
        ("batches", f"DELETE FROM ledger.batches WHERE {_ANY_BATCH}", "billed batch missing in the ledger"),
        ("blocks", f"UPDATE ledger.blocks SET event_rows = 0 WHERE {_ANY_BATCH}", "altered block"),
        ("blocks", f"DELETE FROM ledger.blocks WHERE {_ANY_BATCH}", "block missing in the ledger"),
    ],
)
async def test_a_row_altered_or_removed_in_the_ledger_is_found(
    own_stack: RunningStack, promises: Path, table: str, statement: str, kind: str
) -> None:
    del promises
    name = f"ledger.{table}"
    statements = [statement.format(name)]
    bound = "CONSTRAINT accounts_billed_within_budget"
    if "SET budget" in statement:
        statements.insert(0, f"ALTER TABLE {name} DROP {bound}")
    async with altered_ledger(own_stack, name, *statements):
        outcome = await reconcile(own_stack, timeout_s=0)
    if "SET budget" in statement:
        connection = await asyncpg.connect(own_stack.ready.postgres)
        await connection.execute(f"ALTER TABLE {name} ADD {bound} CHECK (budget IS NULL OR billed <= budget)")
        await connection.close()
    assert kind in told(outcome)
    if table in {"partitions", "batches", "blocks"}:
        assert ", partition " in told(outcome)
        assert " offset " in told(outcome)
    else:
        assert ", campaign " in told(outcome)


@pytest.mark.parametrize(
    ("column", "altered", "restored"),
    [
        ("billed", "billed + 1", "billed - 1"),
        ("overdelivery", "overdelivery + 1", "overdelivery - 1"),
        ("country", "'XX'", "''"),
        ("event_id", "concat(event_id, 'x')", "substring(event_id, 1, length(event_id) - 1)"),
    ],
)
async def test_a_column_altered_in_clickhouse_is_named_with_its_coordinates(
    own_stack: RunningStack, promises: Path, column: str, altered: str, restored: str
) -> None:
    del promises
    async with clickhouse(own_stack) as client:
        where, place = await some_row(client)
        await client.command(f"ALTER TABLE events UPDATE {column} = {altered} WHERE {where} {_MUTATE}")
        try:
            outcome = await reconcile(own_stack)
        finally:
            await client.command(f"ALTER TABLE events UPDATE {column} = {restored} WHERE {where} {_MUTATE}")
    assert f"altered in ClickHouse, campaign {place}: {column}: expected" in told(outcome)


async def test_a_row_removed_or_doubled_in_clickhouse_is_named_with_its_coordinates(
    own_stack: RunningStack, promises: Path
) -> None:
    async with clickhouse(own_stack) as client:
        where, place = await some_row(client)
        await client.command("CREATE TABLE kept ENGINE = Memory AS SELECT * FROM events WHERE " + where)
        await client.command(f"ALTER TABLE events DELETE WHERE {where} {_MUTATE}")
        removed = await reconcile(own_stack)
        await client.command("INSERT INTO events SELECT * FROM kept")
        agreed = await reconcile(own_stack, promises)
        await client.command("INSERT INTO events SELECT * FROM kept")
        doubled = await reconcile(own_stack)
        await client.command(f"ALTER TABLE events DELETE WHERE {where} {_MUTATE}")
        await client.command("INSERT INTO events SELECT * FROM kept")
        await client.command("DROP TABLE kept")
    assert f"missing in ClickHouse, campaign {place}" in told(removed)
    assert "impressions differ between ledger and ClickHouse" in told(removed)
    assert not agreed.differences, told(agreed)
    assert f"stored twice in ClickHouse, campaign {place}" in told(doubled)


async def some_row(client: AsyncClient) -> tuple[str, str]:
    """A billed impression: what selects it, and how it is named."""
    result = await client.query(
        "SELECT toString(campaign_id), partition, log_offset, event_index, event_id FROM events"
        " WHERE billed > 0 AND type = 'IMPRESSION' LIMIT 1"
    )
    campaign, partition, offset, index, event_id = result.first_row
    where = f"partition = {partition} AND log_offset = {offset} AND event_index = {index}"
    return where, f"{campaign}, partition {partition} offset {offset} index {index} eventId {event_id}"


@pytest.mark.parametrize(
    ("alter", "kind"),
    [
        (lambda _: b"", "counted but not promised"),
        (lambda line: line.replace(b'"eventId":"', b'"eventId":"x'), "promised but not in the log"),
        (lambda line: line.replace(b'"cost":3000', b'"cost":3001'), "promised otherwise than logged"),
        (lambda line: line.replace(b"IMPRESSION", b"CLICK"), "promised otherwise than logged"),
    ],
)
async def test_a_promise_altered_or_removed_is_named(
    own_stack: RunningStack, promises: Path, tmp_path: Path, alter: object, kind: str
) -> None:
    assert callable(alter)
    lines = lines_of(promises)
    event_id = msgspec.json.decode(lines[7])["eventId"]
    lines[7] = alter(lines[7])
    cooked = tmp_path / "promises"
    cooked.write_bytes(b"".join(lines))
    outcome = await reconcile(own_stack, cooked)
    named = [str(difference) for difference in outcome.differences if difference.kind == kind]
    assert len(named) == 1
    assert event_id in named[0]


async def test_the_command_fails_on_a_difference_and_says_it_as_json(
    own_stack: RunningStack, promises: Path, tmp_path: Path
) -> None:
    cooked = tmp_path / "promises"
    cooked.write_bytes(b"".join(lines_of(promises)[1:]))
    output = await flightline("reconcile", "--promises", cooked, "--json", stack=own_stack)
    assert output.code == 1
    report = msgspec.json.decode(output.text[output.text.index("{\n") :])
    assert report["agrees"] is False
    assert report["counts"] == {"counted but not promised": 1}
    assert report["differences"][0]["place"]["eventId"]


async def test_a_log_that_is_trimmed_below_what_is_stored_still_agrees(
    own_stack: RunningStack, promises: Path
) -> None:
    ends = {p.partition: p.next_offset for p in (await reconcile(own_stack)).snapshot.partitions.values()}
    admin = AIOKafkaAdminClient(bootstrap_servers=own_stack.ready.kafka)
    await admin.start()
    await admin.delete_records(
        {
            TopicPartition(TRACKING_EVENTS, p): RecordsToDelete(before_offset=end // 2)
            for p, end in ends.items()
        }
    )
    await admin.close()
    outcome = await reconcile(own_stack, promises)
    assert not outcome.differences, told(outcome)
    assert sum(figures.impressions for figures in outcome.sources["log"].values()) == 2 * ROWS
