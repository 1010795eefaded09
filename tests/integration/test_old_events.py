"""An event that waited in a spool for longer than ids are remembered counts once, or waits for who knows."""

import asyncio
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.exceptions import OperationalError

from aggregator.app import clock_ms
from aggregator.clickhouse import ClickHouse
from schemas.events import TrackingEvent
from tests.integration.settling import Books, account, impression, owner, until
from tests.integration.test_zombies import Frozen

PARTITION, OTHER_PARTITION = 1, 2
HOUR_MS = 3600 * 1000
DAY_MS = 24 * HOUR_MS


async def until_counted(books: Books, campaign: str, events: int, duplicates: int = 0) -> None:
    """Until so many events of 1,000 micros are billed, and all that is billed is stored."""

    async def is_counted() -> bool:
        return await books.counted(campaign) == (events, 1_000 * events, duplicates)

    await until(is_counted, f"{events} events and {duplicates} duplicates are counted")
    await until(books.is_settled, "all is stored")


async def test_what_was_counted_and_is_forgotten_is_no_second_event(books: Books, tmp_path: Path) -> None:
    campaign = await account(books.ledger)
    two_days_ago = clock_ms() - 2 * DAY_MS
    old = [impression(campaign, f"{n} é'\\", received_at=two_days_ago) for n in range(3)]
    await books.log.write(PARTITION, old[:2])
    async with owner(*books.engines, tmp_path, seen_window_seconds=1) as then:
        await then.bill(PARTITION)
        await until_counted(books, campaign, 2)
    counted_by = clock_ms()

    async def is_forgotten() -> bool:
        return clock_ms() > counted_by + 1_000

    await until(is_forgotten, "the window has passed")
    await books.log.write(PARTITION, [*old, impression(campaign, "young"), impression(campaign, "young")])
    async with owner(*books.engines, tmp_path, seen_window_seconds=1) as now:
        await now.bill(PARTITION)
        await until_counted(books, campaign, 4, duplicates=3)
        assert not now.failures
    assert sorted(event for _, event in await books.stored()) == sorted(
        ["young", *(each.event_id for each in old)]
    )


async def test_what_was_sent_again_within_a_day_and_waited_in_a_spool_is_no_second_event(
    books: Books, tmp_path: Path
) -> None:
    campaign, now = await account(books.ledger), clock_ms()
    counted_at = now - 25 * HOUR_MS
    first, other = (impression(campaign, each, received_at=counted_at) for each in ("again", "once"))
    await books.log.write(PARTITION, [first, other], at=counted_at)
    sent_again = [
        impression(campaign, each, received_at=counted_at + 22 * HOUR_MS) for each in ("again", "spooled")
    ]
    await books.log.write(PARTITION, sent_again)
    async with owner(*books.engines, tmp_path) as here:
        await here.bill(PARTITION)
        await until_counted(books, campaign, 3, duplicates=1)
        assert not here.failures
    assert await books.reconciled() == ""


class Away:
    """Between an owner and ClickHouse, which answers nothing until it is `back`."""

    def __init__(self) -> None:
        self.back = False
        self._clickhouse: ClickHouse

    def __call__(self, clickhouse: ClickHouse) -> "Away":
        self._clickhouse = clickhouse
        return self

    async def command(self, *args: Any, **settings: Any) -> Any:
        self._require_back()
        return await self._clickhouse.command(*args, **settings)

    async def query(self, *args: Any, **settings: Any) -> Any:
        self._require_back()
        return await self._clickhouse.query(*args, **settings)

    def _require_back(self) -> None:
        if not self.back:
            raise OperationalError("ClickHouse is away")


def two_days_old(campaign: str, event_id: str) -> TrackingEvent:
    return impression(campaign, event_id, received_at=clock_ms() - 2 * DAY_MS)


async def test_an_old_event_waits_for_clickhouse_with_its_partition_and_no_other(
    books: Books, tmp_path: Path
) -> None:
    waiting, going_on = await account(books.ledger), await account(books.ledger)
    old = two_days_old(waiting, "old")
    await books.log.write(
        PARTITION, [impression(waiting, "young")], [old], [impression(waiting, "behind it")]
    )
    clickhouse = Away()
    async with owner(*books.engines, tmp_path, through=clickhouse, bill_max_bytes=1) as here:
        await here.bill(PARTITION)
        behind = await books.log.write(PARTITION, [old, impression(waiting, "later")])
        await here.bill_from(PARTITION, behind[0])
        other = await books.log.write(OTHER_PARTITION, [impression(going_on, "of another partition")])
        await here.settlement.assign([PARTITION, OTHER_PARTITION])
        await here.bill_from(OTHER_PARTITION, other[0])
        assert await books.counted(going_on) == (1, 1_000, 0)
        assert await books.counted(waiting) == (1, 1_000, 0)
        clickhouse.back = True
        await until_counted(books, waiting, 4, duplicates=1)
        straight_on = await books.log.write(PARTITION, [impression(waiting, "straight on")])
        await here.bill_from(PARTITION, straight_on[0])
        assert await books.counted(waiting) == (5, 5_000, 1)
        assert not here.failures
    assert await books.reconciled() == ""


async def test_a_partition_whose_records_are_set_aside_can_be_handed_over(
    books: Books, tmp_path: Path
) -> None:
    campaign = await account(books.ledger)
    await books.log.write(PARTITION, [impression(campaign, "young")], [two_days_old(campaign, "old")])
    async with owner(*books.without_clickhouse, tmp_path, bill_max_bytes=1) as first:
        await first.bill(PARTITION)
        await asyncio.wait_for(first.settlement.quiesce(), 30)
        assert await books.counted(campaign) == (1, 1_000, 0)
    async with owner(*books.engines, tmp_path) as second:
        await second.bill(PARTITION)
        await until_counted(books, campaign, 2)
        assert not second.failures
    assert await books.reconciled() == ""


async def test_a_partition_that_comes_back_to_its_owner_bills_what_it_had_set_aside(
    books: Books, tmp_path: Path
) -> None:
    campaign = await account(books.ledger)
    await books.log.write(PARTITION, [two_days_old(campaign, "old")], [impression(campaign, "young")])
    clickhouse = Away()
    async with owner(*books.engines, tmp_path, through=clickhouse) as here:
        await here.bill(PARTITION)
        await here.settlement.quiesce()
        clickhouse.back = True
        await here.bill(PARTITION)
        await until_counted(books, campaign, 2)
        assert not here.failures


async def test_an_old_event_waits_until_what_was_billed_before_the_window_is_stored(
    books: Books, tmp_path: Path
) -> None:
    campaign = await account(books.ledger)
    old = impression(campaign, "old", received_at=clock_ms() - 2 * DAY_MS)
    await books.log.write(PARTITION, [old])
    async with owner(*books.engines, tmp_path / "one", through=Frozen("INSERT INTO events")) as first:
        await first.bill(PARTITION)

        async def is_billed() -> bool:
            return (await books.counted(campaign))[0] == 1

        await until(is_billed, "the old event is billed")
    assert await books.stored() == []
    await books.log.write(PARTITION, [old])
    async with owner(*books.engines, tmp_path / "two") as second:
        await second.bill(PARTITION)
        await until_counted(books, campaign, 1, duplicates=1)
