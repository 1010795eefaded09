"""Metrics as the API shows them."""

from decimal import Decimal

import pytest

from control_api.domain.metrics import metrics_of, percentage
from tests.unit.control_api.samples import an_account, eur


def test_the_example_of_the_specification():
    shown = metrics_of(
        an_account(
            impressions=15_420,
            clicks=1_234,
            conversions=89,
            revenue=4_450_000_000,
            billed=890_000_000,
            budget=None,
        )
    )
    assert (shown.ctr, shown.conversion_rate, shown.roi) == (Decimal("8.0"), Decimal("7.2"), Decimal("400.0"))
    assert shown.roas == Decimal("5.00")
    assert (shown.revenue, shown.cost) == (eur("4450.00"), eur("890.00"))
    assert shown.cost_per_conversion == eur("10.00")
    assert shown.cost_per_click == eur("0.721232")


def test_a_zero_denominator_gives_null():
    shown = metrics_of(an_account(budget=None))
    ratios = (
        shown.ctr,
        shown.conversion_rate,
        shown.roi,
        shown.roas,
        shown.cost_per_click,
        shown.cost_per_conversion,
    )
    assert ratios == (None,) * 6
    assert (shown.budget.limit, shown.budget.remaining, shown.budget.percent) == (None, None, None)


@pytest.mark.parametrize(
    ("part", "whole", "percent"),
    [
        (1, 2000, "0.1"),
        (5, 10_000, "0.1"),
        (49, 100_000, "0.0"),
        (1, 3, "33.3"),
        (2, 3, "66.7"),
        (-1, 2, "-50.0"),
    ],
)
def test_percentages_round_half_up(part, whole, percent):
    assert percentage(part, whole) == Decimal(percent)


def test_the_budget_is_shown_with_what_remains():
    use = metrics_of(an_account(billed=90_000_000)).budget
    assert (use.limit, use.billed, use.remaining, use.percent) == (
        eur("100.00"), eur("90.00"), eur("10.00"), Decimal("90.0"),
    )  # fmt: skip


def test_micros_below_a_cent_are_not_lost():
    assert metrics_of(an_account(billed=2_500)).cost == eur("0.0025")
