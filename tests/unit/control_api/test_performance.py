"""Reports from counts: ratios, gaps, comparison, pacing."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec

from control_api.domain.account import Account
from control_api.domain.campaign import Campaign
from control_api.domain.live import LiveCampaign, Told, picture_of, told_by
from control_api.domain.performance import (
    Counted,
    Dimension,
    compared,
    groups,
    pacing,
    series,
    totals,
)
from control_api.domain.period import Period
from control_api.domain.targeting import targets_of
from control_api.domain.tracking import TrackedEvent, event_id_of, internal_key, relayed
from schemas.money import Money
from schemas.reasons import CampaignStatus, EventType, Threshold
from tests.unit.control_api.samples import a_campaign

START = datetime(2026, 11, 24, tzinfo=UTC)
HOUR = timedelta(hours=1)
PERIOD = Period(START, START + 4 * HOUR, "UTC")
STARTS = [START + n * HOUR for n in range(4)]
LATER = START + 10 * HOUR


def flight(**changes: object) -> Campaign:
    usual = {"start_date": START, "end_date": START + 10 * HOUR, "status": CampaignStatus.ACTIVE}
    return msgspec.structs.replace(a_campaign(), **(usual | changes))


def euros(amount: str) -> Money:
    return Money(Decimal(amount), "EUR")


def test_the_specifications_example() -> None:
    counted = Counted(
        impressions=15_420, clicks=1_234, conversions=89, revenue=4_450_000_000, cost=890_000_000
    )
    shown = totals(counted, "EUR")
    assert (shown.ctr, shown.conversion_rate, shown.roi) == (Decimal("8.0"), Decimal("7.2"), Decimal("400.0"))
    assert shown.roas == Decimal("5.00")
    assert shown.cost == euros("890.00")
    assert shown.cost_per_conversion == euros("10.00")


def test_gaps_are_zero_and_what_falls_into_one_point_is_added_up() -> None:
    rows = [
        (START + HOUR, Counted(impressions=2, cost=5)),
        (START + HOUR + timedelta(minutes=30), Counted(impressions=1, clicks=1)),
        (START + 3 * HOUR, Counted(impressions=7)),
    ]
    points = series(STARTS, rows, PERIOD, "EUR", LATER)
    assert [point.impressions for point in points] == [0, 3, 0, 7]
    assert [point.clicks for point in points] == [0, 1, 0, 0]
    assert points[0].ctr is None
    assert [(point.start, point.end) for point in points] == [(at, at + HOUR) for at in STARTS]


def test_a_total_is_the_sum_of_its_parts_as_new_as_the_newest() -> None:
    parts = [
        Counted(impressions=2, bounces=1, cost=5, last_updated=START),
        Counted(impressions=1, unsubscribes=3, revenue=7, last_updated=START + HOUR),
        Counted(clicks=4, overdelivery_cost=6),
    ]
    assert Counted.of_all(parts) == Counted(
        impressions=3,
        clicks=4,
        bounces=1,
        unsubscribes=3,
        cost=5,
        overdelivery_cost=6,
        revenue=7,
        last_updated=START + HOUR,
    )
    assert Counted.of_all([]) == Counted()


def test_a_row_of_the_first_day_counts_in_the_first_point_even_if_that_begins_later() -> None:
    points = series(STARTS, [(START - 5 * HOUR, Counted(clicks=4))], PERIOD, "EUR", LATER)
    assert points[0].clicks == 4


def test_what_has_not_begun_yet_has_no_point_unless_something_was_counted_in_it() -> None:
    now = START + HOUR + timedelta(minutes=56)
    points = series(STARTS, [(START + 3 * HOUR, Counted(clicks=1))], PERIOD, "EUR", now)
    assert [point.start for point in points] == [STARTS[0], STARTS[1], STARTS[2], STARTS[3]]
    points = series(STARTS, [], PERIOD, "EUR", now - 2 * timedelta(minutes=1))
    assert [point.start for point in points] == STARTS[:2]


def test_names_on_the_wire() -> None:
    (point, *_) = msgspec.to_builtins(series(STARTS, [], PERIOD, "EUR", LATER), enc_hook=str)
    assert {"from", "to", "overdeliveryCost", "conversionRate", "costPerClick"} <= point.keys()
    assert "lastUpdated" in msgspec.to_builtins(totals(Counted(), "EUR"))
    assert msgspec.to_builtins(PERIOD).keys() == {"from", "to", "timeZone"}


def test_groups_name_what_was_asked_for_and_unknown_is_null() -> None:
    rows = [({"channel": "WEB", "variant": "", "country": ""}, Counted(clicks=1))]
    (group,) = groups(rows, (Dimension.CHANNEL, Dimension.COUNTRY), "EUR")
    assert group.key == {"channel": "WEB", "country": None}


def test_changes_are_percentages_of_before() -> None:
    found = compared(
        Counted(impressions=150, clicks=1, cost=50), Counted(impressions=100, cost=100), PERIOD, "EUR"
    )
    changes = found.changes
    assert (changes.impressions, changes.cost) == (Decimal("50.0"), Decimal("-50.0"))
    assert (changes.clicks, changes.revenue) == (None, None)


def test_expected_spend_follows_the_flight() -> None:
    account = Account(currency="EUR", budget=100_000_000, billed=30_000_000)
    for gone, expected in ((-1, "0.00"), (0, "0.00"), (4, "40.00"), (10, "100.00"), (12, "100.00")):
        assert pacing(flight(), account, START + gone * HOUR).expected == euros(expected)
    third = pacing(flight(end_date=START + 3 * HOUR), account, START + HOUR).expected
    assert third == euros("33.333333")
    assert pacing(flight(end_date=None), account, LATER).expected is None
    assert pacing(flight(), Account(currency="EUR"), LATER).expected is None


def test_the_end_of_the_budget_is_projected_from_the_pace_until_now() -> None:
    account = Account(currency="EUR", budget=100_000_000, billed=25_000_000)
    assert pacing(flight(), account, START + HOUR).projected_end == START + 4 * HOUR
    nothing = msgspec.structs.replace(account, billed=0)
    assert pacing(flight(), nothing, START + HOUR).projected_end is None
    assert pacing(flight(), account, START).projected_end is None
    spent, closed = msgspec.structs.replace(account, billed=100_000_000), START + 2 * HOUR
    assert pacing(flight(closed_since=closed), spent, LATER).projected_end == closed
    crawling = msgspec.structs.replace(account, budget=10**15, billed=1)
    assert pacing(flight(), crawling, START + 1000 * HOUR).projected_end is None
    assert pacing(flight(), Account(currency="EUR", billed=5), LATER).projected_end is None


def test_a_picture_changes_its_digest_with_what_it_shows() -> None:
    account = Account(currency="EUR", crossed=frozenset({Threshold.BUDGET_90}))
    live = LiveCampaign(
        id="c",
        status=CampaignStatus.ACTIVE,
        status_reason=None,
        version=1,
        budget_version=1,
        start_date=START,
        account=account,
    )
    scheduled, running = picture_of(live, START - HOUR), picture_of(live, START)
    assert msgspec.json.decode(scheduled.status)["effectiveStatus"] == "SCHEDULED"
    assert msgspec.json.decode(running.status)["crossed"] == ["90"]
    assert scheduled.told.metrics == running.told.metrics
    assert scheduled.told.status != running.told.status
    assert told_by(running.told.text) == running.told
    assert told_by(None) == told_by("odd") == Told()


def test_targets_are_what_the_campaign_names() -> None:
    found = targets_of(a_campaign())
    assert found.rules == a_campaign().targeting_rules
    assert found.channels == a_campaign().settings.channels
    assert found.frequency_cap is None


def test_an_event_keeps_its_own_id_and_user_agent() -> None:
    event = TrackedEvent(type=EventType.CLICK, event_id="mine", user_agent="app/1")
    sent = relayed(event, "c", "ours")
    assert (sent.event_id, sent.user_agent, sent.campaign_id) == ("mine", "app/1", "c")
    plain = relayed(TrackedEvent(type=EventType.CLICK), "c", "ours")
    assert (plain.event_id, plain.user_agent) == ("ours", None)


def test_an_event_id_follows_from_the_key_and_from_who_has_sent_it() -> None:
    first = event_id_of("o", "user", "c", "key")
    assert first == event_id_of("o", "user", "c", "key")
    others = {event_id_of("o", "user", "d", "key"), event_id_of("o", "else", "c", "key")}
    others |= {event_id_of("o", "user", "c", "other"), event_id_of("o", "user", "c", None)}
    assert first not in others
    assert len(others) == 4


def test_an_internal_key_is_of_one_organization_and_one_secret() -> None:
    assert internal_key("s", "o") == internal_key("s", "o")
    assert len({internal_key("s", "o"), internal_key("t", "o"), internal_key("s", "p")}) == 3
