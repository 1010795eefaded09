"""The report of a period, made of what was counted in it; its ratios are those of metrics."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from operator import attrgetter

import msgspec

from control_api.domain.account import Account
from control_api.domain.campaign import Campaign
from control_api.domain.metrics import cost_per, percentage, ratio
from control_api.domain.period import AHEAD, Period
from schemas.money import Money, from_micros

_LAST_YEAR = 9_999


class Dimension(StrEnum):
    """What a report can be grouped by."""

    CHANNEL = "channel"
    VARIANT = "variant"
    COUNTRY = "country"


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted, bots left out; money in micros. Names are the columns of the reports' queries."""

    impressions: int = 0
    clicks: int = 0
    conversions: int = 0
    bounces: int = 0
    unsubscribes: int = 0
    cost: int = 0
    overdelivery_cost: int = 0
    revenue: int = 0
    last_updated: datetime | None = None

    @classmethod
    def of_all(cls, some: "Sequence[Counted]") -> "Counted":
        """All of them together."""
        names = [name for name in cls.__struct_fields__ if name != "last_updated"]
        newest = max((each.last_updated for each in some if each.last_updated is not None), default=None)
        sums = {name: sum(map(attrgetter(name), some)) for name in names}
        return cls(last_updated=newest, **sums)


class Figures(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Counts, money and ratios. A ratio over zero is null."""

    impressions: int
    clicks: int
    conversions: int
    revenue: Money
    cost: Money
    overdelivery_cost: Money
    ctr: Decimal | None
    conversion_rate: Decimal | None
    cost_per_click: Money | None
    cost_per_conversion: Money | None
    roas: Decimal | None
    roi: Decimal | None


class Totals(Figures, frozen=True, kw_only=True):
    """Of a whole period. `lastUpdated` is the receivedAt of the newest event counted."""

    bounces: int
    unsubscribes: int
    last_updated: datetime | None


class Point(Figures, frozen=True, kw_only=True, rename={"start": "from", "end": "to"}):
    """One point of a series: what happened from `from` until before `to`."""

    start: datetime
    end: datetime


class Group(Figures, frozen=True, kw_only=True):
    """One combination of what it is grouped by; null is unknown."""

    key: dict[str, str | None]


class Changes(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """By how many percent a figure has changed; null where it was zero before."""

    impressions: Decimal | None
    clicks: Decimal | None
    conversions: Decimal | None
    revenue: Decimal | None
    cost: Decimal | None


class Previous(msgspec.Struct, frozen=True):
    """The period just before."""

    period: Period
    totals: Totals
    changes: Changes


class Pacing(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The budget against time. `expected`: what would be billed by now if the budget were spent evenly from
    startDate to endDate; null without one of them. `actual`: what is billed, from the ledger. `projectedEnd`:
    when the budget is used up at the pace since startDate; null without a budget or spend."""

    expected: Money | None
    actual: Money
    projected_end: datetime | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """By occurredAt, from what is stored; `pacing.actual` is the ledger's, by the order of the log."""

    period: Period
    totals: Totals
    previous: Previous | None
    series: list[Point]
    groups: list[Group]
    pacing: Pacing


def figures(counted: Counted, currency: str) -> dict[str, object]:
    """The fields of Figures."""

    def money(micros: int) -> Money:
        return from_micros(micros, currency)

    return {
        "impressions": counted.impressions,
        "clicks": counted.clicks,
        "conversions": counted.conversions,
        "revenue": money(counted.revenue),
        "cost": money(counted.cost),
        "overdelivery_cost": money(counted.overdelivery_cost),
        "ctr": percentage(counted.clicks, counted.impressions),
        "conversion_rate": percentage(counted.conversions, counted.clicks),
        "cost_per_click": cost_per(counted.cost, counted.clicks, currency),
        "cost_per_conversion": cost_per(counted.cost, counted.conversions, currency),
        "roas": ratio(counted.revenue, counted.cost),
        "roi": percentage(counted.revenue - counted.cost, counted.cost),
    }


def totals(counted: Counted, currency: str) -> Totals:
    """The totals of a period."""
    return Totals(
        **figures(counted, currency),  # type: ignore[arg-type]  # by name; each has its type there
        bounces=counted.bounces,
        unsubscribes=counted.unsubscribes,
        last_updated=counted.last_updated,
    )


def series(
    starts: Sequence[datetime],
    rows: Iterable[tuple[datetime, Counted]],
    period: Period,
    currency: str,
    now: datetime,
) -> list[Point]:
    """A point for each of `starts`, zeros where nothing was counted, none for what has not begun yet."""
    found: dict[datetime, Counted] = {}
    for at, counted in rows:
        start = starts[max(0, bisect_right(starts, at) - 1)]
        found[start] = Counted.of_all([found[start], counted]) if start in found else counted
    ends = [*starts[1:], period.end]
    return [
        Point(start=start, end=end, **figures(found.get(start, Counted()), currency))  # type: ignore[arg-type]  # as above
        for start, end in zip(starts, ends, strict=True)
        if start <= now + AHEAD or start in found
    ]


def groups(
    rows: Iterable[tuple[Mapping[str, str], Counted]], dimensions: Sequence[Dimension], currency: str
) -> list[Group]:
    """A group for each row, in their order."""
    return [
        Group(
            key={name.value: key[name] or None for name in dimensions},
            **figures(counted, currency),  # type: ignore[arg-type]  # as above
        )
        for key, counted in rows
    ]


def compared(current: Counted, earlier: Counted, period: Period, currency: str) -> Previous:
    """The earlier period, and what has changed since."""

    def change(name: str) -> Decimal | None:
        now, then = getattr(current, name), getattr(earlier, name)
        return percentage(now - then, then)

    changes = Changes(**{name: change(name) for name in Changes.__struct_fields__})
    return Previous(period, totals(earlier, currency), changes)


def pacing(campaign: Campaign, account: Account, now: datetime) -> Pacing:
    """How the spend of a campaign keeps up with its time."""
    return Pacing(
        expected=_expected(campaign, account, now),
        actual=from_micros(account.billed, account.currency),
        projected_end=_projected_end(campaign, account, now),
    )


def _expected(campaign: Campaign, account: Account, now: datetime) -> Money | None:
    if account.budget is None or campaign.end_date is None:
        return None
    flight = _micros(campaign.end_date - campaign.start_date)
    gone = min(max(_micros(now - campaign.start_date), 0), flight)
    micros = (Decimal(account.budget) * gone / flight).quantize(Decimal(1), ROUND_HALF_UP)
    return from_micros(int(micros), account.currency)


def _projected_end(campaign: Campaign, account: Account, now: datetime) -> datetime | None:
    gone = now - campaign.start_date
    if account.budget is None or account.billed <= 0 or gone <= timedelta():
        return None
    if account.billed >= account.budget:
        return campaign.closed_since or now
    try:
        left = gone * ((account.budget - account.billed) / account.billed)
        end = (now + left).astimezone(UTC)
    except OverflowError:  # in no calendar
        return None
    return end.replace(microsecond=0) if end.year < _LAST_YEAR else None


def _micros(length: timedelta) -> int:
    return length // timedelta(microseconds=1)
