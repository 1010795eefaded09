"""What is old goes from the log and from the ledger once it is verified as stored, and not before."""

from collections.abc import AsyncIterator, Callable
from datetime import date, timedelta
from pathlib import Path

import asyncpg
import pytest_asyncio

from aggregator.app import clock_ms
from aggregator.block_ledger import BlockLedger
from aggregator.ledger import Ledger
from aggregator.ledger_days import drop_old_days
from aggregator.log_retention import LogRetention
from aggregator.postgres import connect_pool
from tests.integration.settling import Books, Owner, account, impression, owner, until

PARTITION = 1
LONG_AGO = date(2020, 1, 1)


@pytest_asyncio.fixture
async def pool(books: Books) -> AsyncIterator[asyncpg.Pool]:
    pool = await connect_pool(books.engines[1], 2)
    yield pool
    pool.terminate()


def retention(
    someone: Owner,
    books: Books,
    pool: asyncpg.Pool,
    keep_seconds: float,
    clock: Callable[[], int] = clock_ms,
) -> LogRetention:
    return LogRetention(
        books.engines[0],
        BlockLedger(pool),
        someone.log_reader,
        keep_seconds=keep_seconds,
        every_seconds=1,
        clock_ms=clock,
    )


def a_month_ahead() -> int:
    return clock_ms() + 30 * 24 * 3600 * 1000


async def test_records_go_once_they_are_old_and_verified_but_for_the_last(
    books: Books, tmp_path: Path, pool: asyncpg.Pool
) -> None:
    campaign = await account(books.ledger)
    await books.log.write(PARTITION, *[[impression(campaign, str(n))] for n in range(20)])
    async with owner(*books.engines, tmp_path) as first:
        await first.bill(PARTITION)
        await until(books.is_settled, "all is verified")
        assert await retention(first, books, pool, 3600).trim(PARTITION) == 0
        assert await retention(first, books, pool, 3600, a_month_ahead).trim(PARTITION) == 0
        assert await retention(first, books, pool, 0).trim(PARTITION) == 19
    await books.log.write(PARTITION, [impression(campaign, "later"), impression(campaign, "19")])
    # Another machine: it knows of the log what is left of it.
    async with owner(*books.engines, tmp_path / "another") as second:
        assert await second.bill(PARTITION) == 20
        await until(books.is_settled, "all is verified")
    assert await books.counted(campaign) == (21, 21_000, 1)
    assert await books.reconciled() == ""


async def test_no_record_goes_that_is_not_verified_as_stored(
    books: Books, tmp_path: Path, pool: asyncpg.Pool
) -> None:
    campaign = await account(books.ledger)
    await books.log.write(PARTITION, *[[impression(campaign, str(n))] for n in range(20)])
    async with owner(*books.engines, tmp_path) as first:
        await first.bill(PARTITION)
        await until(books.is_settled, "all is verified")
    await books.log.write(PARTITION, *[[impression(campaign, f"then {n}")] for n in range(5)])
    async with owner(*books.without_clickhouse, tmp_path) as second:
        await second.bill(PARTITION)
        assert await retention(second, books, pool, 0).trim(PARTITION) == 20
    await books.ledger.execute("UPDATE ledger.blocks SET verified_at = NULL")
    async with owner(*books.without_clickhouse, tmp_path) as third:
        assert await retention(third, books, pool, 0).trim(PARTITION) == 20


async def test_an_owner_deletes_by_itself(books: Books, tmp_path: Path) -> None:
    campaign = await account(books.ledger)
    await books.log.write(PARTITION, *[[impression(campaign, str(n))] for n in range(20)])
    options = {"log_retention_seconds": 0, "retention_every_seconds": 0.2}
    async with owner(*books.engines, tmp_path, **options) as first:
        await first.bill(PARTITION)

        async def is_trimmed() -> bool:
            return await first.log_reader.bounds(PARTITION) == (19, 20)

        await until(is_trimmed, "all but the last record are deleted")
        assert not first.failures


async def days(books: Books) -> set[str]:
    rows = await books.ledger.fetch(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'ledger.batches'::regclass"
    )
    return {row["relname"].removeprefix("batches_") for row in rows}


async def billed_and_stored(books: Books, folder: Path, events: int = 1) -> date:
    """So many records of an event each are billed and verified as stored; today, as Postgres has it."""
    campaign = await account(books.ledger)
    await books.log.write(PARTITION, *[[impression(campaign, str(n))] for n in range(events)])
    today: date = await books.ledger.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date")
    async with owner(*books.engines, folder) as first:
        await first.bill(PARTITION)
        await until(books.is_settled, "all is verified")
    return today


async def move_to(books: Books, day: date) -> None:
    """Says that all was billed, and stored, on that day, which has parts of its own."""
    await books.ledger.execute("SELECT ledger.create_day($1)", day)
    await date_back(books, day)


async def date_back(books: Books, day: date) -> None:
    """Says that all was billed, and stored, on that day."""
    for table, column in (("batches", "billed_at"), ("blocks", "created_at")):
        await books.ledger.execute(f"UPDATE ledger.{table} SET {column} = $1", day)  # noqa: S608  our own names


async def test_a_day_of_the_ledger_goes_once_all_of_it_is_verified(
    books: Books, tmp_path: Path, pool: asyncpg.Pool
) -> None:
    today = await billed_and_stored(books, tmp_path, 20)
    await move_to(books, LONG_AGO)
    await books.ledger.execute("UPDATE ledger.blocks SET verified_at = NULL")
    assert await drop_old_days(Ledger(pool), today, 7 * 24 * 3600) == []
    await books.ledger.execute("UPDATE ledger.blocks SET verified_at = now()")
    await books.ledger.execute("UPDATE ledger.partitions SET blocked_offset = 19")
    assert await drop_old_days(Ledger(pool), today, 7 * 24 * 3600) == []
    await books.ledger.execute("UPDATE ledger.partitions SET blocked_offset = 20")
    assert await books.ledger.fetchval("SELECT count(*) FROM ledger.batches") > 0
    assert await drop_old_days(Ledger(pool), LONG_AGO + timedelta(days=7), 7 * 24 * 3600) == []
    assert await drop_old_days(Ledger(pool), today, 7 * 24 * 3600) == [LONG_AGO]
    assert await books.ledger.fetchval("SELECT count(*) FROM ledger.batches") == 0
    assert await books.ledger.fetchval("SELECT count(*) FROM ledger.blocks") == 0
    assert await days(books) == {"default", *(f"{today + timedelta(days=n):%Y%m%d}" for n in (0, 1))}


async def test_no_day_of_the_ledger_goes_by_a_clock_that_is_ahead_of_postgres(
    books: Books, tmp_path: Path, pool: asyncpg.Pool
) -> None:
    today = await billed_and_stored(books, tmp_path)
    await move_to(books, today - timedelta(days=3))
    assert await drop_old_days(Ledger(pool), today + timedelta(days=30), 7 * 24 * 3600) == []
    assert await books.ledger.fetchval("SELECT count(*) FROM ledger.batches") == 1


async def test_what_stands_in_the_default_parts_goes_with_its_day(
    books: Books, tmp_path: Path, pool: asyncpg.Pool
) -> None:
    today = await billed_and_stored(books, tmp_path)
    await date_back(books, LONG_AGO)
    await books.ledger.execute("SELECT ledger.create_day($1)", LONG_AGO + timedelta(days=1))
    assert await drop_old_days(Ledger(pool), today, 7 * 24 * 3600) == [LONG_AGO + timedelta(days=1)]
    assert await books.ledger.fetchval("SELECT count(*) FROM ledger.batches") == 0


async def test_a_block_whose_batches_went_with_the_day_before_is_what_is_left_of_it(
    books: Books, tmp_path: Path, pool: asyncpg.Pool
) -> None:
    """The first block of a day has batches of the day before, which goes a day earlier."""
    today = await billed_and_stored(books, tmp_path, 5)
    await books.ledger.execute("SELECT ledger.create_day($1)", LONG_AGO)
    await books.ledger.execute("UPDATE ledger.batches SET billed_at = $1", LONG_AGO)
    assert await drop_old_days(Ledger(pool), today, 7 * 24 * 3600) == [LONG_AGO]
    await books.rows.command("TRUNCATE TABLE events")
    async with owner(*books.engines, tmp_path, compare_all_every_seconds=0.1) as second:
        await second.settlement.assign([PARTITION])

        async def is_told() -> bool:
            return bool(await books.losses())

        await until(is_told, "the loss is told")
        assert not second.failures
    assert await books.losses() == [(0, 0, 5, 5, 5_000)]
