"""Metrics of a campaign from its account. All divisions round half up."""

from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal

import msgspec

from control_api.domain.account import Account
from schemas.money import Money, from_micros

_PERCENT_PLACES = Decimal("0.1")
_RATIO_PLACES = Decimal("0.01")


class InvalidTraffic(msgspec.Struct, frozen=True):
    """Events of bots: in no other metric."""

    impressions: int
    clicks: int
    conversions: int


class BudgetUse(msgspec.Struct, frozen=True):
    """How much of the effective budget is billed; null where there is no budget."""

    limit: Money | None
    billed: Money
    remaining: Money | None
    percent: Decimal | None


class Metrics(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The specification's Campaign Metrics, with what is not billed beside it. A ratio over zero is null."""

    impressions: int
    clicks: int
    conversions: int
    bounces: int
    unsubscribes: int
    revenue: Money
    unverified_revenue: Money
    cost: Money
    overdelivery_cost: Money
    billable_impressions: int
    ctr: Decimal | None
    conversion_rate: Decimal | None
    cost_per_click: Money | None
    cost_per_conversion: Money | None
    roas: Decimal | None
    roi: Decimal | None
    unbilled: dict[str, int]
    invalid_traffic: InvalidTraffic
    budget: BudgetUse
    last_updated: datetime | None


def metrics_of(account: Account) -> Metrics:
    """The metrics as the API shows them."""

    def money(micros: int) -> Money:
        return from_micros(micros, account.currency)

    return Metrics(
        impressions=account.impressions,
        clicks=account.clicks,
        conversions=account.conversions,
        bounces=account.bounces,
        unsubscribes=account.unsubscribes,
        revenue=money(account.revenue),
        unverified_revenue=money(account.unverified_revenue),
        cost=money(account.billed),
        overdelivery_cost=money(account.overdelivery),
        billable_impressions=account.billable_impressions,
        ctr=percentage(account.clicks, account.impressions),
        conversion_rate=percentage(account.conversions, account.clicks),
        cost_per_click=cost_per(account.billed, account.clicks, account.currency),
        cost_per_conversion=cost_per(account.billed, account.conversions, account.currency),
        roas=ratio(account.revenue, account.billed),
        roi=percentage(account.revenue - account.billed, account.billed),
        unbilled=account.unbilled,
        invalid_traffic=InvalidTraffic(
            account.invalid_impressions, account.invalid_clicks, account.invalid_conversions
        ),
        budget=_budget_use(account),
        last_updated=account.last_received_at,
    )


def percentage(part: int, whole: int) -> Decimal | None:
    """What `part` is of `whole` in percent, to one decimal; None for a whole of zero."""
    if whole == 0:
        return None
    return (Decimal(part * 100) / whole).quantize(_PERCENT_PLACES, ROUND_HALF_UP)


def ratio(part: int, whole: int) -> Decimal | None:
    """`part` over `whole`, to two decimals; None for a whole of zero."""
    return (Decimal(part) / whole).quantize(_RATIO_PLACES, ROUND_HALF_UP) if whole else None


def cost_per(micros: int, count: int, currency: str) -> Money | None:
    """What one of `count` costs; None when there is none."""
    if count == 0:
        return None
    return from_micros(int((Decimal(micros) / count).quantize(Decimal(1), ROUND_HALF_UP)), currency)


def _budget_use(account: Account) -> BudgetUse:
    billed = from_micros(account.billed, account.currency)
    if account.budget is None:
        return BudgetUse(None, billed, None, None)
    return BudgetUse(
        limit=from_micros(account.budget, account.currency, budget=True),
        billed=billed,
        remaining=from_micros(account.budget - account.billed, account.currency),
        percent=percentage(account.billed, account.budget),
    )
