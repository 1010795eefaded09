"""The rows of ClickHouse."""

from typing import Any

import msgspec

from aggregator.domain.rows import EventRow
from schemas.events import TrackingEvent
from schemas.reasons import EventType, Unbilled
from tests.unit.aggregator.billing_cases import (
    CAMPAIGNS,
    MemoryLedger,
    account_of,
    batch_of,
    event_of,
    unbilled_of,
)


def rows_of_events(
    *events: TrackingEvent, duplicates: tuple[int, ...] = (), **account: Any
) -> list[EventRow]:
    ledger = MemoryLedger([account_of(**account)])
    ledger.bill(batch_of(events, 40), duplicates)
    return ledger.rows


def test_a_row_carries_all_that_the_door_stamped() -> None:
    event = event_of(
        EventType.CONVERSION,
        30,
        event_id="e-1",
        received_at=2_000,
        occurred_at=1_500,
        budget_version=4,
        visitor_id="v",
        customer_id="c",
        click_id="k",
        variant="a",
        channel="WEB",
        placement="hero",
        country="DE",
        url="https://shop.example/",
        referrer="https://news.example/",
        user_agent="Firefox",
        revenue=7,
        revenue_verified=True,
        data=msgspec.Raw('{"name":"Zoë"}'.encode()),
    )
    (row,) = rows_of_events(event)
    same = msgspec.structs.asdict(event)
    for name, value in msgspec.structs.asdict(row).items():
        if name in same and name not in {"data", "reason"}:
            assert value == same[name], name
    assert (row.reason, row.bot, row.data) == ("", False, '{"name":"Zoë"}')
    assert (row.incarnation, row.partition, row.log_offset, row.event_index) == (1, 2, 40, 0)
    assert (row.cost, row.billed, row.overdelivery) == (30, 30, 0)


def test_every_field_of_an_event_but_its_flat_mark_is_in_the_row() -> None:
    event_fields = {field.name for field in msgspec.structs.fields(event_of())}
    row_fields = {field.name for field in msgspec.structs.fields(EventRow)}
    assert event_fields - row_fields == {"flat"}


def test_an_event_without_data_has_none_in_its_row() -> None:
    (row,) = rows_of_events(event_of())
    assert row.data == ""


def test_duplicates_have_no_rows() -> None:
    rows = rows_of_events(event_of(), event_of(), event_of(), duplicates=(1,))
    assert [row.log_offset for row in rows] == [40, 42]


def test_an_unbilled_event_costs_nothing_whatever_is_left() -> None:
    paused, bot = unbilled_of(Unbilled.PAUSED, cost=5), unbilled_of(Unbilled.BOT, cost=5)
    rows = rows_of_events(paused, bot, event_of(cost=20), budget=10)
    assert [(row.reason, row.bot, row.billed) for row in rows] == [
        ("PAUSED", False, 0),
        ("BOT", True, 0),
        ("", False, 10),
    ]


def test_clipping_one_campaign_leaves_the_rows_of_another_alone() -> None:
    ledger = MemoryLedger([account_of(budget=10), account_of(CAMPAIGNS[1])])
    other = event_of(cost=9, campaign_id=CAMPAIGNS[1])
    ledger.bill(batch_of([event_of(cost=9), other, event_of(cost=9), other]))
    assert [(row.billed, row.overdelivery) for row in ledger.rows] == [(9, 0), (9, 0), (1, 8), (9, 0)]
