"""The period of a report and its points: time zones, days of 23 and 25 hours, bounds."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from control_api.domain.period import (
    MAX_POINTS,
    Interval,
    Period,
    before,
    day_of,
    moment_at,
    period_of,
    starts_of,
)

NOW = datetime(2026, 11, 24, 10, 7, 30, tzinfo=UTC)
BERLIN = "Europe/Berlin"


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]  # a date and a time in their order


def days(first: date, last: date, zone: str) -> Period:
    return Period(moment_at(first, zone), moment_at(last, zone), zone)


@pytest.mark.parametrize(
    ("first", "hours"),
    [
        (date(2026, 3, 28), 24),
        (date(2026, 3, 29), 23),
        (date(2026, 10, 25), 25),
        (date(2026, 10, 26), 24),
    ],
)
def test_a_day_is_as_long_as_the_clock_makes_it(first: date, hours: int) -> None:
    period = days(first, first + timedelta(days=1), BERLIN)
    assert period.end - period.start == timedelta(hours=hours)
    assert len(starts_of(period, Interval.HOUR)) == hours
    assert starts_of(period, Interval.DAY) == [period.start]


@pytest.mark.parametrize(
    "zone", ["UTC", BERLIN, "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Apia"]
)
@pytest.mark.parametrize("interval", [Interval.HOUR, Interval.DAY])
def test_points_begin_at_hours_and_days_of_the_zone_and_leave_no_gap(zone: str, interval: Interval) -> None:
    period = Period(utc(2026, 3, 1, 5, 15), utc(2026, 4, 20, 3, 45), zone)
    starts = starts_of(period, interval)
    assert starts[0] == period.start
    assert starts[-1] < period.end
    for at in starts[1:]:
        local = at.astimezone(ZoneInfo(zone))
        assert local.minute == 0
        assert interval is Interval.HOUR or local.hour == 0
    lengths = {later - earlier for earlier, later in pairwise(starts[1:])}
    most = timedelta(hours=1.5) if interval is Interval.HOUR else timedelta(hours=25)
    assert timedelta() < min(lengths) <= max(lengths) <= most
    assert len({day_of(at, zone) for at in starts}) == len(starts) or interval is Interval.HOUR


def test_a_day_that_begins_at_one_begins_where_the_day_before_ends() -> None:
    # In Beirut the clock goes from 24:00 to 1:00.
    period = days(date(2026, 3, 28), date(2026, 3, 30), "Asia/Beirut")
    first, second = starts_of(period, Interval.DAY)
    assert second - first == timedelta(hours=24)
    assert period.end - second == timedelta(hours=23)


def test_the_period_before_has_as_many_days() -> None:
    period = days(date(2026, 3, 29), date(2026, 4, 5), BERLIN)
    assert before(period) == days(date(2026, 3, 22), date(2026, 3, 29), BERLIN)
    odd = Period(utc(2026, 3, 29, 12), utc(2026, 3, 30, 18), BERLIN)
    assert before(odd) == Period(utc(2026, 3, 28, 6), utc(2026, 3, 29, 12), BERLIN)


def test_a_period_is_widened_to_quarter_hours() -> None:
    period, errors = period_of(utc(2026, 11, 20, 10, 7), utc(2026, 11, 20, 11, 1), Interval.HOUR, "UTC", NOW)
    assert errors == []
    assert period == Period(utc(2026, 11, 20, 10), utc(2026, 11, 20, 11, 15), "UTC")


@pytest.mark.parametrize(
    ("interval", "start"),
    [
        (Interval.MINUTE, utc(2026, 11, 24, 9, 15)),
        (Interval.HOUR, utc(2026, 11, 22, 10, 15)),
        (Interval.DAY, moment_at(date(2026, 10, 25), BERLIN)),
    ],
)
def test_what_is_not_said_is_the_usual(interval: Interval, start: datetime) -> None:
    period, _ = period_of(None, None, interval, BERLIN, NOW)
    assert period == Period(start, utc(2026, 11, 24, 10, 15), BERLIN)


@pytest.mark.parametrize(
    ("start", "end", "interval", "named"),
    [
        (utc(1999, 12, 31), None, Interval.DAY, "from"),
        (datetime.min.replace(tzinfo=UTC), None, Interval.DAY, "from"),
        (None, datetime.max.replace(tzinfo=UTC), Interval.DAY, "to"),
        (utc(2026, 1, 2), utc(2026, 1, 1), Interval.DAY, "to"),
        (utc(2026, 1, 1), utc(2026, 1, 1) + timedelta(hours=MAX_POINTS + 1), Interval.HOUR, "interval"),
        (NOW - timedelta(days=8), NOW - timedelta(days=7, hours=20), Interval.MINUTE, "interval"),
    ],
)
def test_impossible_periods_are_named(
    start: datetime | None, end: datetime | None, interval: Interval, named: str
) -> None:
    period, errors = period_of(start, end, interval, "UTC", NOW)
    assert period is None
    assert [error.pointer for error in errors] == [named]


def test_as_many_points_as_may_be() -> None:
    start = utc(2026, 1, 1)
    period, _ = period_of(start, start + timedelta(hours=MAX_POINTS), Interval.HOUR, BERLIN, NOW)
    assert period
    assert len(starts_of(period, Interval.HOUR)) == MAX_POINTS
