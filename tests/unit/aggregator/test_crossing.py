"""Thresholds, in integers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.domain.billing import Account
from aggregator.domain.crossing import crossed_by, near_threshold
from schemas.reasons import Threshold
from tests.unit.aggregator.billing_cases import account_of

B90, B100, MAX = Threshold.BUDGET_90, Threshold.BUDGET_100, Threshold.MAX_IMPRESSIONS


@pytest.mark.parametrize(
    ("budget", "billed", "crossed"),
    [
        (100, 89, []),
        (100, 90, [B90]),
        (100, 99, [B90]),
        (100, 100, [B90, B100]),
        (101, 90, []),
        (101, 91, [B90]),
        (1, 0, []),
        (0, 0, [B90, B100]),
        (None, 10**18, []),
        (9_007_199_254_740_993, 8_106_479_329_266_893, []),  # a float would round this one up to 90 %
        (9_007_199_254_740_993, 8_106_479_329_266_894, [B90]),
    ],
)
def test_budget_thresholds(budget: int | None, billed: int, crossed: list[Threshold]) -> None:
    assert list(crossed_by(account_of(budget=budget), billed, 0)) == crossed


@pytest.mark.parametrize(
    ("limit", "added", "crossed"), [(10, 4, []), (10, 5, [MAX]), (0, 0, [MAX]), (None, 99, [])]
)
def test_impressions_are_a_threshold(limit: int | None, added: int, crossed: list[Threshold]) -> None:
    counted = 0 if not limit else 5
    account = account_of(max_impressions=limit, billable_impressions=counted)
    assert list(crossed_by(account, 0, added)) == crossed


money = st.integers(0, 10**18)
limits = st.builds(
    lambda budget, limit, billed: account_of(budget=budget, max_impressions=limit, billed=billed),
    st.none() | money,
    st.none() | st.integers(0, 1_000),
    money,
)


@settings(deadline=None)
@given(limits, money, st.integers(0, 1_000), money, st.integers(0, 1_000))
def test_more_spend_never_crosses_less(
    account: Account, cost: int, impressions: int, more: int, further: int
) -> None:
    fewer = set(crossed_by(account, cost, impressions))
    assert fewer <= set(crossed_by(account, cost + more, impressions + further))
    assert near_threshold(account, cost, impressions) == bool(fewer)
