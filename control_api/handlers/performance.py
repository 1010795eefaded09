"""The report of a campaign's performance in a period: from what is stored in ClickHouse, by occurredAt."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Protocol

import msgspec

from control_api.domain import performance
from control_api.domain.content_rules import is_time_zone
from control_api.domain.performance import Counted, Dimension, Report
from control_api.domain.period import (
    Interval,
    Period,
    before,
    begins_with_a_day,
    moment_at,
    period_of,
    starts_of,
)
from control_api.domain.refusals import FieldError
from control_api.errors import MalformedRequest, NotFound
from control_api.handlers import campaigns
from control_api.handlers.actor import Actor
from control_api.handlers.ports import Store

MAX_GROUPS = 1_000

Series = list[tuple[datetime, Counted]]
"""By the moment at which each point begins."""


class Reports(Protocol):
    """What is stored of the events of an organization's campaigns. Every method raises Unavailable while it
    cannot be read."""

    async def totals(self, campaign_id: str, period: Period) -> Counted: ...

    async def series(self, campaign_id: str, period: Period, interval: Interval) -> Series:
        """All that `totals` has, by a moment of the minute, hour or day that it was counted in."""

    async def groups(
        self, campaign_id: str, period: Period, dimensions: Sequence[Dimension], most: int
    ) -> list[tuple[dict[str, str], Counted]]:
        """By the values of all dimensions (those not asked for are empty), most impressions first."""

    async def visitors(self, campaign_id: str, since: date, until: date) -> int:
        """Different visitors, about, on these days of UTC (`until` is not one of them)."""

    async def visitors_by_day(self, campaign_id: str, period: Period) -> dict[date, int]:
        """The same for each day of the period's time zone that has any."""


ReportsOf = Callable[[str], Reports]
"""By the organization's id."""


class ReportRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for; a `date` is its first moment in the time zone, None the organization's."""

    start: datetime | date | None = None
    end: datetime | date | None = None
    interval: Interval = Interval.DAY
    zone: str | None = None
    group_by: tuple[Dimension, ...] = ()
    compare: bool = False


async def report(
    store: Store, reports_of: ReportsOf, actor: Actor, campaign_id: str, asked: ReportRequest, now: datetime
) -> Report:
    """The report. Raises NotFound, MalformedRequest for an impossible period, Unavailable."""
    campaign, account = await campaigns.get(store, actor, campaign_id)
    zone = asked.zone or await zone_of(store, actor)
    period = _period(asked, zone, now)
    earlier, reports = before(period), reports_of(actor.organization_id)
    (rows, previous), groups = await asyncio.gather(
        _series(reports, campaign_id, period, earlier if asked.compare else None, asked.interval),
        _groups(reports, campaign_id, period, asked.group_by),
    )
    # Not asked for alone: another query would have what is stored in between, and no total its parts' sum.
    counted = Counted.of_all([each for _, each in rows])
    currency = account.currency
    starts = starts_of(period, asked.interval)
    return Report(
        period=period,
        totals=performance.totals(counted, currency),
        previous=performance.compared(counted, previous, earlier, currency) if previous else None,
        series=performance.series(starts, rows, period, currency, now),
        groups=performance.groups(groups, asked.group_by, currency),
        pacing=performance.pacing(campaign, account, now),
    )


async def zone_of(store: Store, actor: Actor) -> str:
    """The organization's time zone. Raises NotFound."""
    organization = await store.organization(actor.organization_id)
    if organization is None:
        raise NotFound("there is no such organization")
    return organization.time_zone


def _period(asked: ReportRequest, zone: str, now: datetime) -> Period:
    if not is_time_zone(zone):
        raise MalformedRequest("the period is not valid", [FieldError("tz", "not an IANA time zone")])
    period, errors = period_of(
        _moment(asked.start, zone), _moment(asked.end, zone), asked.interval, zone, now
    )
    if period is None:
        raise MalformedRequest("the period is not valid", errors)
    return period


def _moment(given: datetime | date | None, zone: str) -> datetime | None:
    if given is None or isinstance(given, datetime):
        return given
    try:
        return moment_at(given, zone)
    except OverflowError:
        raise MalformedRequest("a day lies outside the years 1 to 9999") from None


async def _groups(
    reports: Reports, campaign_id: str, period: Period, dimensions: Sequence[Dimension]
) -> list[tuple[dict[str, str], Counted]]:
    if not dimensions:
        return []
    return await reports.groups(campaign_id, period, dimensions, MAX_GROUPS)


async def _series(
    reports: Reports, campaign_id: str, period: Period, earlier: Period | None, interval: Interval
) -> tuple[Series, Counted | None]:
    """The period's, and all of the one before it, if there is one.

    Where a day begins with the period they are one question: ClickHouse plans a question for longer than it
    looks for the answer.
    """
    if earlier is None:
        return await reports.series(campaign_id, period, interval), None
    if interval is Interval.DAY and begins_with_a_day(period):
        both = await reports.series(campaign_id, Period(earlier.start, period.end, period.zone), interval)
        here = [(at, counted) for at, counted in both if at >= period.start]
        return here, Counted.of_all([counted for at, counted in both if at < period.start])
    here, previous = await asyncio.gather(
        reports.series(campaign_id, period, interval), reports.totals(campaign_id, earlier)
    )
    return here, previous
