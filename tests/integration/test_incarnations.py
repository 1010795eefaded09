"""A log that is not the one that was billed: billing goes on in it, nothing is counted twice or forgotten."""

import asyncio
from pathlib import Path

import pytest

from aggregator import seen_recovery, settlement
from aggregator.app import clock_ms
from aggregator.errors import LogGapError
from tests.integration.settling import Books, Owner, account, impression, owner, until

PARTITION = 1


async def bill_each(someone: Owner, first_offset: int, count: int) -> None:
    """Each record is a batch of its own."""
    for offset in range(first_offset, first_offset + count):
        async for records in someone.consumer.read(PARTITION, offset, offset + 1):
            await someone.settlement.settle(PARTITION, records)


async def ten_billed(books: Books, campaign: str, someone: Owner) -> list[list[object]]:
    """Ten records of two events, each record a batch."""
    records = [[impression(campaign, f"{n}a"), impression(campaign, f"{n}b")] for n in range(10)]
    await books.log.write(PARTITION, *records)
    assert await someone.settlement.assign([PARTITION]) == {PARTITION: 0}
    await bill_each(someone, 0, 10)
    return records


async def ten_stored(books: Books, campaign: str, folder: Path) -> list[list[object]]:
    """The same by an owner that has gone when all of them are stored."""
    async with owner(*books.engines, folder) as first:
        records = await ten_billed(books, campaign, first)
        await until(books.is_settled, "all is stored")
    return records


async def test_a_log_that_was_cut_goes_on_in_a_new_incarnation_and_what_is_sent_again_counts_once(
    books: Books, tmp_path: Path
) -> None:
    campaign = await account(books.ledger)
    records = await ten_stored(books, campaign, tmp_path)
    await books.log.make_anew()
    await books.log.write(PARTITION, *records[:6])
    async with owner(*books.engines, tmp_path) as second:
        assert await second.bill(PARTITION) == 6
        # Sent again in other company, and one that is new.
        again = [event for record in records[4:] for event in record]
        await books.log.write(PARTITION, again, [impression(campaign, "new")])
        await second.bill_from(PARTITION, 6)
        assert await books.counted(campaign) == (21, 21_000, len(again))
        await until(books.is_settled, "all is stored")
        assert not second.failures
    assert await books.incarnations() == [(1, 0, 6, 10, 8, 8_000)]
    assert await books.losses() == []
    assert [each for each in await books.stored() if each[0] == 1] == [(1, "new")]
    assert len(await books.stored()) == 21
    assert await books.reconciled() == ""


@pytest.mark.parametrize("at_once", [2, 1_000])
async def test_ids_that_no_file_knows_come_from_the_log_and_where_that_is_gone_from_clickhouse(
    books: Books, tmp_path: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen_recovery, "SEGMENT_IDS", at_once)
    campaign = await account(books.ledger)
    records = await ten_stored(books, campaign, tmp_path / "one")
    await books.log.make_anew()
    await books.log.write(PARTITION, *records[:3])
    for machine in ("two", "three"):
        async with owner(*books.engines, tmp_path / machine) as another:
            await another.settlement.assign([PARTITION])
            (offset,) = await books.log.write(PARTITION, [event for record in records for event in record])
            await another.bill_from(PARTITION, offset)
    assert await books.counted(campaign) == (20, 20_000, 40)
    assert len(await books.incarnations()) == 1


async def test_a_topic_made_anew_begins_at_its_first_record(books: Books, tmp_path: Path) -> None:
    campaign = await account(books.ledger)
    await ten_stored(books, campaign, tmp_path)
    await books.log.make_anew()
    await books.log.write(PARTITION, *[[impression(campaign, f"other {n}")] for n in range(30)])
    async with owner(*books.engines, tmp_path) as second:
        assert await second.bill(PARTITION) == 0
        await until(books.is_settled, "all is stored")
    assert await books.incarnations() == [(1, None, 0, 10, 20, 20_000)]
    assert await books.counted(campaign) == (50, 50_000, 0)
    assert len(await books.stored()) == 50
    assert await books.reconciled() == ""


async def test_a_log_that_comes_back_goes_on_where_it_was_billed_to(books: Books, tmp_path: Path) -> None:
    campaign = await account(books.ledger)
    async with owner(*books.engines, tmp_path) as first:
        records = await ten_billed(books, campaign, first)
    await books.log.make_anew()
    await books.log.write(PARTITION, [impression(campaign, "elsewhere")])
    async with owner(*books.engines, tmp_path) as elsewhere:
        assert await elsewhere.bill(PARTITION) == 0
    await books.log.make_anew()
    await books.log.write(PARTITION, *records, [impression(campaign, "back")])
    async with owner(*books.engines, tmp_path) as back:
        assert await back.bill(PARTITION) == 10
        await until(books.is_settled, "all is stored")
    assert [each[:4] for each in await books.incarnations()] == [(1, None, 0, 10), (2, 0, 10, 1)]
    assert await books.counted(campaign) == (22, 22_000, 0)
    assert len(await books.stored()) == 22
    assert await books.losses() == []
    assert await books.reconciled() == ""


async def test_what_was_billed_and_never_stored_comes_from_the_log_and_what_that_lacks_is_told(
    books: Books, tmp_path: Path
) -> None:
    campaign = await account(books.ledger)
    async with owner(*books.without_clickhouse, tmp_path) as first:
        records = await ten_billed(books, campaign, first)
        # One block is fixed and waits for ClickHouse; the rest stands in none.
        blocked = "SELECT blocked_offset FROM ledger.partitions WHERE partition = $1"
        assert await books.ledger.fetchval(blocked, PARTITION) < 10
        await first.settlement.stop()
    await books.log.make_anew()
    await books.log.write(PARTITION, *records[:6])
    async with owner(*books.engines, tmp_path) as second:
        assert await second.bill(PARTITION) == 6
        await books.log.write(PARTITION, *records[4:], [impression(campaign, "new")])
        await second.bill_from(PARTITION, 6)
        await until(books.is_settled, "all is stored")
        assert not second.failures
    assert await books.counted(campaign) == (21, 21_000, 12)
    stored = await books.stored()
    assert [event for _, event in stored] == [*(f"{n}{each}" for n in range(6) for each in "ab"), "new"]
    assert await books.losses() == [(0, 6, 10, 8, 8_000)]
    differences = await books.reconciled()
    assert "impressions differ between ledger and ClickHouse" in differences
    assert f"partition {PARTITION} incarnation 1 offset 8 index 0 eventId 6a" in differences


async def test_a_block_whose_records_are_gone_in_part_is_stored_as_what_is_left_of_it(
    books: Books, tmp_path: Path
) -> None:
    campaign = await account(books.ledger)
    async with owner(*books.without_clickhouse, tmp_path, store_linger_seconds=1000) as first:
        records = await ten_billed(books, campaign, first)
        await first.settlement.stop()
    # An owner that fixes all of it as one block, and finds ClickHouse away.
    async with owner(*books.without_clickhouse, tmp_path) as fixing:
        await fixing.settlement.assign([PARTITION])
    await books.ledger.execute(
        "UPDATE ledger.partitions SET blocked_offset = 10, next_block = 1 WHERE partition = $1", PARTITION
    )
    await books.ledger.execute(
        "INSERT INTO ledger.blocks (partition, incarnation, block, first_offset, next_offset, event_rows,"
        " billed, position_hash, epoch, attempt) VALUES ($1, 0, 0, 0, 10, 20, 20000, 7, 1, 1)",
        PARTITION,
    )
    await books.log.make_anew()
    await books.log.write(PARTITION, *records[:6])
    async with owner(*books.engines, tmp_path) as second:
        assert await second.bill(PARTITION) == 6
        await until(books.is_settled, "all is stored")
        assert not second.failures
    assert await books.losses() == [(0, 6, 10, 8, 8_000)]
    assert len(await books.stored()) == 12


async def test_an_owner_whose_log_changes_under_it_stops_and_the_next_goes_on(
    books: Books, tmp_path: Path
) -> None:
    campaign = await account(books.ledger)
    async with owner(*books.engines, tmp_path) as first:
        records = await ten_billed(books, campaign, first)
        await first.settlement.compare_logs()
        await books.log.make_anew()
        await books.log.write(PARTITION, *records[:9], [impression(campaign, "another")], *records[9:])
        with pytest.raises(LogGapError):
            await first.settlement.compare_logs()
    async with owner(*books.engines, tmp_path) as second:
        assert await second.bill(PARTITION) == 9
    assert await books.counted(campaign) == (21, 21_000, 2)


async def test_records_that_were_deleted_before_they_were_billed_stop_nobody_for_good(
    books: Books, tmp_path: Path
) -> None:
    campaign = await account(books.ledger)
    await ten_stored(books, campaign, tmp_path)
    await books.log.write(PARTITION, *[[impression(campaign, f"later {n}")] for n in range(5)])
    await books.log.delete_below(PARTITION, 12)
    async with owner(*books.engines, tmp_path) as second:
        assert await second.bill(PARTITION) == 12
    assert [each[:4] for each in await books.incarnations()] == [(1, None, 12, 10)]
    assert await books.counted(campaign) == (23, 23_000, 0)


async def test_a_ledger_of_before_that_has_no_hashes_bills_again_and_counts_nothing_twice(
    books: Books, tmp_path: Path
) -> None:
    campaign = await account(books.ledger)
    records = await ten_stored(books, campaign, tmp_path)
    await books.ledger.execute("UPDATE ledger.batches SET last_record_hash = NULL")
    await books.log.make_anew()
    await books.log.write(PARTITION, *records[:6], [impression(campaign, "new")])
    async with owner(*books.engines, tmp_path) as second:
        assert await second.bill(PARTITION) == 0
        await until(books.is_settled, "all is stored")
    assert await books.counted(campaign) == (21, 21_000, 12)
    assert len(await books.stored()) == 21


async def test_of_a_log_that_went_before_the_window_nobody_asks_clickhouse(
    books: Books, tmp_path: Path
) -> None:
    campaign = await account(books.ledger)
    await ten_stored(books, campaign, tmp_path / "one")
    await books.log.make_anew()
    await books.log.write(PARTITION, [impression(campaign, "new")])
    async with owner(*books.engines, tmp_path / "two") as second:
        await second.bill(PARTITION)
        await until(books.is_settled, "all is stored")
    await books.ledger.execute("UPDATE ledger.incarnations SET began_at = now() - interval '25 hours'")
    async with owner(*books.without_clickhouse, tmp_path / "three") as third:
        assert await asyncio.wait_for(third.settlement.assign([PARTITION]), 60) == {PARTITION: 1}


async def test_ids_of_a_log_before_are_known_for_as_long_as_billing_stood_still(
    books: Books, tmp_path: Path
) -> None:
    campaign = await account(books.ledger)
    records = await ten_stored(books, campaign, tmp_path / "one")
    await books.log.make_anew()
    await books.log.write(PARTITION, [impression(campaign, "new")])
    async with owner(*books.engines, tmp_path / "two") as second:
        await second.bill(PARTITION)
        await until(books.is_settled, "all is stored")
    (copy,) = await books.log.write(PARTITION, records[0])

    def three_days_later() -> int:
        return clock_ms() + 3 * 24 * 3600 * 1000

    async with owner(*books.engines, tmp_path / "three", clock=three_days_later) as third:
        assert await third.bill(PARTITION) == copy
    assert await books.counted(campaign) == (21, 21_000, 2)


async def test_a_partition_whose_claim_waits_for_clickhouse_holds_up_no_other(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement, "_CLAIM_TRIES", 1)
    campaign, free = await account(books.ledger), PARTITION + 1
    await ten_stored(books, campaign, tmp_path / "one")
    await books.log.make_anew()
    await books.log.write(free, [impression(campaign, "of another partition")])
    claimed: dict[int, int] = {}

    async def go_on(partition: int, offset: int) -> None:
        claimed[partition] = offset

    async with owner(*books.without_clickhouse, tmp_path / "two") as second:
        claiming = asyncio.create_task(second.settlement.assign([PARTITION, free], go_on))

        async def is_free() -> bool:
            return free in claimed

        await until(is_free, "the other one is claimed")
        await asyncio.sleep(3)  # for several tries of the first
        assert not claiming.done()
        await second.bill_from(free, claimed[free])
        assert not second.failures
        claiming.cancel()
        await asyncio.gather(claiming, return_exceptions=True)
    assert claimed == {free: 0}
    assert (await books.counted(campaign))[0] == 21


async def test_a_ledger_that_was_set_back_bills_again_and_every_row_stands_there_once(
    books: Books, tmp_path: Path
) -> None:
    campaign, ledger = await account(books.ledger), ("partitions", "batches", "blocks", "accounts")
    await ten_stored(books, campaign, tmp_path)
    for table in ledger:
        await books.ledger.execute(f"CREATE TABLE kept_{table} (LIKE ledger.{table})")
        await books.ledger.execute(f"INSERT INTO kept_{table} SELECT * FROM ledger.{table}")  # noqa: S608  our own names
    await books.log.write(PARTITION, *[[impression(campaign, f"later {n}")] for n in range(10)])
    for _ in range(3):  # each a new owner, and so a new epoch
        async with owner(*books.engines, tmp_path) as second:
            await second.bill(PARTITION)
            await until(books.is_settled, "all is stored")
    assert await books.counted(campaign) == (30, 30_000, 0)
    for table in ledger:
        await books.ledger.execute(f"DELETE FROM ledger.{table}")  # noqa: S608  the same
        await books.ledger.execute(f"INSERT INTO ledger.{table} SELECT * FROM kept_{table}")  # noqa: S608  the same
    await books.log.write(PARTITION, [impression(campaign, "later 3"), impression(campaign, "new")])

    async def is_billed_again() -> bool:
        """By the first owner whose epoch the fence does not refuse: a process that ends is started again."""
        async with owner(*books.engines, tmp_path) as again:
            await again.bill(PARTITION)
            while not again.failures:
                if await books.is_settled() and not await books.reconciled():
                    return True
                await asyncio.sleep(0.2)
        return False

    await until(is_billed_again, "all is billed and stored again")
    assert await books.counted(campaign) == (31, 31_000, 1)
    assert len(await books.stored()) == 31
