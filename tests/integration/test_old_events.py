"""An event that waited in a spool for longer than ids are remembered counts once, or waits for who knows."""

import asyncio
from pathlib import Path

import pytest

from aggregator.app import clock_ms
from tests.integration.settling import Books, account, impression, owner, until
from tests.integration.test_zombies import Frozen

PARTITION = 1
DAY_MS = 24 * 3600 * 1000


async def test_what_was_counted_and_is_forgotten_is_no_second_event(books: Books, tmp_path: Path) -> None:
    campaign = await account(books.ledger)
    two_days_ago = clock_ms() - 2 * DAY_MS
    old = [impression(campaign, f"{n} é'\\", received_at=two_days_ago) for n in range(3)]
    await books.log.write(PARTITION, old[:2])
    async with owner(*books.engines, tmp_path, seen_window_seconds=1) as then:
        await then.bill(PARTITION)
        await until(books.is_settled, "all is stored")
    counted_by = clock_ms()

    async def is_forgotten() -> bool:
        return clock_ms() > counted_by + 1_000

    await until(is_forgotten, "the window has passed")
    await books.log.write(PARTITION, [*old, impression(campaign, "young"), impression(campaign, "young")])
    async with owner(*books.engines, tmp_path, seen_window_seconds=1) as now:
        await now.bill(PARTITION)
        await until(books.is_settled, "all is stored")
        assert not now.failures
    assert await books.counted(campaign) == (4, 4_000, 3)
    assert sorted(event for _, event in await books.stored()) == sorted(
        ["young", *(each.event_id for each in old)]
    )


async def test_billing_of_an_old_event_waits_for_clickhouse_and_the_partition_can_be_handed_over(
    books: Books, tmp_path: Path
) -> None:
    campaign = await account(books.ledger)
    old = impression(campaign, "old", received_at=clock_ms() - 2 * DAY_MS)
    await books.log.write(PARTITION, [impression(campaign, "young")], [old])
    async with owner(*books.without_clickhouse, tmp_path, bill_max_bytes=1) as first:
        billing = asyncio.create_task(first.bill(PARTITION))

        async def young_is_billed() -> bool:
            return (await books.counted(campaign))[0] == 1

        await until(young_is_billed, "the young event is billed")
        await asyncio.wait([billing], timeout=1)
        assert not billing.done()
        await asyncio.wait_for(first.settlement.quiesce(), 30)
        with pytest.raises(AssertionError):
            await billing
        assert (await books.counted(campaign))[0] == 1
    async with owner(*books.engines, tmp_path) as second:
        await second.bill(PARTITION)
        await until(books.is_settled, "all is stored")
    assert await books.counted(campaign) == (2, 2_000, 0)
    assert await books.reconciled() == ""


async def test_an_old_event_waits_until_what_was_billed_before_the_window_is_stored(
    books: Books, tmp_path: Path
) -> None:
    campaign = await account(books.ledger)
    old = impression(campaign, "old", received_at=clock_ms() - 2 * DAY_MS)
    await books.log.write(PARTITION, [old])
    async with owner(*books.engines, tmp_path / "one", through=Frozen("INSERT INTO events")) as first:
        await first.bill(PARTITION)
    assert await books.stored() == []
    await books.log.write(PARTITION, [old])
    async with owner(*books.engines, tmp_path / "two") as second:
        await second.bill(PARTITION)
        await until(books.is_settled, "all is stored")
    assert await books.counted(campaign) == (1, 1_000, 1)
