"""An owner that is frozen at the worst moment and wakes when another has done its work changes nothing."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from clickhouse_connect.driver.exceptions import OperationalError

from aggregator.clickhouse import ClickHouse
from tests.integration.settling import Books, account, impression, owner, until

PARTITION = 1
COUNT = 20
WAITS_FOR_A_LOCK = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'flightline-aggregator'
      AND wait_event_type = 'Lock'
"""


class Frozen:
    """Between an owner and ClickHouse: stands still before the first statement that begins with a text."""

    def __init__(self, before: str, *, cut_off_insert: bool = False) -> None:
        self.reached = asyncio.Event()
        self.woken = asyncio.Event()
        self._before = before
        self._cut_off = cut_off_insert
        self._held: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self._clickhouse: ClickHouse

    def __call__(self, clickhouse: ClickHouse) -> "Frozen":
        self._clickhouse = clickhouse
        return self

    async def command(self, *args: Any, **settings: Any) -> Any:
        statement = _beginning(args[0])
        if self._cut_off and self._held is None and statement.startswith("INSERT INTO events"):
            self._held = (args, settings)
            raise OperationalError("the connection was lost, and the insert is still under way")
        if statement.startswith(self._before):
            self.reached.set()
            await self.woken.wait()
        return await self._clickhouse.command(*args, **settings)

    async def query(self, *args: Any, **settings: Any) -> Any:
        return await self._clickhouse.query(*args, **settings)

    async def let_the_insert_arrive(self) -> None:
        assert self._held is not None
        args, settings = self._held
        await self._clickhouse.command(*args, **settings)


def _beginning(statement: str) -> str:
    lines = [line for line in statement.splitlines() if not line.startswith("--")]
    return lines[0]


async def write_and_expect(books: Books) -> str:
    campaign = await account(books.ledger)
    await books.log.write(PARTITION, [impression(campaign, str(n)) for n in range(COUNT)])
    return campaign


async def assert_counted_once(books: Books, campaign: str) -> None:
    assert await books.counted(campaign) == (COUNT, COUNT * 1_000, 0)
    assert sorted(int(event) for _, event in await books.stored()) == list(range(COUNT))
    assert await books.reconciled() == ""


async def test_an_owner_frozen_in_its_billing_transaction_holds_nobody_up_and_bills_nothing_when_it_wakes(
    books: Books, tmp_path: Path
) -> None:
    campaign = await write_and_expect(books)
    other = await asyncpg.connect(books.engines[1])
    lock = other.transaction()
    await lock.start()
    await other.execute("SELECT FROM ledger.accounts WHERE campaign_id = $1 FOR UPDATE", UUID(campaign))
    frozen = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.integration.frozen_owner", *books.engines, str(tmp_path / "frozen"), str(PARTITION)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:

        async def is_in_its_transaction() -> bool:
            return bool(await books.ledger.fetchval(WAITS_FOR_A_LOCK))

        await until(is_in_its_transaction, "the owner has moved the offset, and waits for the account")
        os.kill(frozen.pid, signal.SIGSTOP)
        await lock.rollback()
        async with owner(*books.engines, tmp_path / "next") as successor:
            assert await successor.bill(PARTITION) == 0
            await until(books.is_settled, "all is stored")
            os.kill(frozen.pid, signal.SIGCONT)
            output, _ = await asyncio.wait_for(frozen.communicate(), 60)
            assert b"fenced" in output.splitlines()
            assert b"billed" not in output.splitlines()
            await assert_counted_once(books, campaign)
            assert not successor.failures
    finally:
        if frozen.returncode is None:
            frozen.kill()
            await frozen.wait()
        await other.close()


async def test_an_owner_frozen_before_an_insert_stores_nothing_when_it_wakes(
    books: Books, tmp_path: Path
) -> None:
    campaign = await write_and_expect(books)
    frozen = Frozen("INSERT INTO events")
    async with owner(*books.engines, tmp_path / "frozen", through=frozen) as first:
        await first.bill(PARTITION)
        await asyncio.wait_for(frozen.reached.wait(), 60)
        async with owner(*books.engines, tmp_path / "next") as successor:
            await successor.bill(PARTITION)
            await until(books.is_settled, "the successor has stored and verified all")
            frozen.woken.set()
            await first.settlement.stop()
            await assert_counted_once(books, campaign)
            assert not first.failures
            assert not successor.failures


async def test_an_insert_that_failed_and_left_nothing_is_made_again_without_a_deletion(
    books: Books, tmp_path: Path
) -> None:
    """A deletion looks through all of a month: it would keep a partition from storing for long."""
    campaign = await write_and_expect(books)
    deletions = Frozen("ALTER TABLE events DELETE", cut_off_insert=True)
    async with owner(*books.engines, tmp_path, through=deletions) as only:
        await only.bill(PARTITION)
        await until(books.is_settled, "all is verified")
        assert not deletions.reached.is_set()
        await assert_counted_once(books, campaign)
        assert not only.failures


async def test_an_owner_frozen_before_a_repair_deletes_nothing_when_it_wakes(
    books: Books, tmp_path: Path
) -> None:
    campaign = await write_and_expect(books)
    frozen = Frozen("ALTER TABLE events DELETE", cut_off_insert=True)
    looks = {"compare_all_every_seconds": 0.1}
    async with owner(*books.engines, tmp_path / "frozen", through=frozen, **looks) as first:
        await first.bill(PARTITION)
        await until(books.is_settled, "it has inserted again, since nothing had come of the first insert")
        await frozen.let_the_insert_arrive()  # which was under way all the time: all rows are there twice
        await asyncio.wait_for(frozen.reached.wait(), 60)
        async with owner(*books.engines, tmp_path / "next") as successor:
            await successor.bill(PARTITION)
            await until(books.is_settled, "the successor has verified all")
            assert await books.ledger.fetchval("SELECT max(epoch) FROM ledger.blocks") == 2
            frozen.woken.set()
            await first.settlement.stop()
            await assert_counted_once(books, campaign)
            assert not first.failures
            assert not successor.failures
