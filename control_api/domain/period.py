"""The period of a report, and the minutes, hours and days that it is cut into."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

import msgspec

from control_api.domain.refusals import FieldError

MAX_POINTS = 2_000
MINUTES_FOR = timedelta(days=7)
AHEAD = timedelta(minutes=5)
"""An event's occurredAt is at most so far ahead of us: what begins later is still empty."""

_QUARTER = timedelta(minutes=15)
_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST, _LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


class Interval(StrEnum):
    """How long each point of a series is."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"


_USUAL = {Interval.MINUTE: _HOUR, Interval.HOUR: 2 * _DAY, Interval.DAY: 30 * _DAY}
_LENGTH = {Interval.MINUTE: _MINUTE, Interval.HOUR: _HOUR, Interval.DAY: _DAY}


class Period(msgspec.Struct, frozen=True, rename={"start": "from", "end": "to", "zone": "timeZone"}):
    """From `from` until before `to`, both at quarter-hours, UTC; hours and days are those of `timeZone`."""

    start: datetime
    end: datetime
    zone: str


def period_of(
    start: datetime | None, end: datetime | None, interval: Interval, zone: str, now: datetime
) -> tuple[Period | None, list[FieldError]]:
    """The period that is asked for, widened to whole quarter-hours; or what is wrong with it.

    Without an end it lasts until now, without a start for as long as is usual for its interval.
    """
    given = {"from": start, "to": end}
    outside = [name for name, moment in given.items() if moment and not _EARLIEST <= moment <= _LATEST]
    if outside:
        return None, [FieldError(name, "must lie in the years 2000 to 2099") for name in outside]
    until = _ceiling(end or now)
    since = _floor(start) if start else _usual_start(until, interval, zone)
    period = Period(since, until, zone)
    errors = list(_errors(period, interval, now))
    return (None if errors else period), errors


def moment_at(day: date, zone: str) -> datetime:
    """The first moment of a day of a time zone."""
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def starts_of(period: Period, interval: Interval) -> list[datetime]:
    """Where the points of a series begin: the first with the period, which may be within a day."""
    return list(_starts(period, interval))


def day_of(moment: datetime, zone: str) -> date:
    """The day of a time zone that a moment lies in."""
    return moment.astimezone(ZoneInfo(zone)).date()


def begins_with_a_day(period: Period) -> bool:
    """Whether its first moment is that of a day of its time zone."""
    return moment_at(day_of(period.start, period.zone), period.zone) == period.start


def before(period: Period) -> Period:
    """The period of the same length just before: so many days of its time zone, if it has whole ones."""
    first, last = day_of(period.start, period.zone), day_of(period.end, period.zone)
    whole = begins_with_a_day(period) and moment_at(last, period.zone) == period.end
    length = period.end - period.start
    start = moment_at(first - (last - first), period.zone) if whole else period.start - length
    return Period(start, period.start, period.zone)


def _errors(period: Period, interval: Interval, now: datetime) -> Iterator[FieldError]:
    if period.end <= period.start:
        yield FieldError("to", "must be after from")
    elif (period.end - period.start) / _LENGTH[interval] > MAX_POINTS:
        yield FieldError("interval", f"a series has at most {MAX_POINTS} points: take a longer interval")
    if interval is Interval.MINUTE and period.start < now - MINUTES_FOR - _QUARTER:
        yield FieldError("interval", f"minutes are there for the last {MINUTES_FOR.days} days only")


def _starts(period: Period, interval: Interval) -> Iterator[datetime]:
    zone = ZoneInfo(period.zone)
    at = period.start
    while at < period.end:
        yield at
        if interval is Interval.MINUTE:
            at += _MINUTE
        elif interval is Interval.HOUR:
            at = _next_hour(at, zone)
        else:
            at = moment_at(day_of(at, period.zone) + _DAY, period.zone)


def _next_hour(at: datetime, zone: ZoneInfo) -> datetime:
    """Where the next hour of the clock begins: in some zones at half past, and some shift by half an hour."""
    later = at + _HOUR
    aligned = later - later.astimezone(zone).minute * _MINUTE
    begins = aligned > at and aligned.astimezone(zone).minute == 0
    return aligned if begins else aligned + _HOUR


def _usual_start(end: datetime, interval: Interval, zone: str) -> datetime:
    start = end - _USUAL[interval]
    return moment_at(day_of(start, zone), zone) if interval is Interval.DAY else _floor(start)


def _floor(moment: datetime) -> datetime:
    return moment - (moment - _EPOCH) % _QUARTER


def _ceiling(moment: datetime) -> datetime:
    return moment + (_EPOCH - moment) % _QUARTER
