"""Billing by example: each pricing, each limit, at its edge."""

from typing import Any

import pytest

from aggregator.domain.billing import Opening, Remaining, at_risk, tally
from schemas.reasons import EventType, Threshold, Unbilled
from tests.unit.aggregator.billing_cases import (
    CAMPAIGNS,
    MemoryLedger,
    account_of,
    batch_of,
    event_of,
    unbilled_of,
)

CAMPAIGN = CAMPAIGNS[0]
CPM = 2_500
"""Micros an impression at 2.50 per thousand."""


def ledger_of(**fields: Any) -> MemoryLedger:
    return MemoryLedger([account_of(**fields)])


def test_the_event_that_crosses_the_budget_is_billed_for_what_remains() -> None:
    ledger = ledger_of(budget=6_000)
    ledger.bill(batch_of([event_of(cost=CPM)] * 4))
    assert [(row.billed, row.overdelivery) for row in ledger.rows] == [
        (2_500, 0),
        (2_500, 0),
        (1_000, 1_500),
        (0, 2_500),
    ]
    assert ledger.accounts[CAMPAIGN].billed == 6_000
    assert ledger.totals[CAMPAIGN].overdelivery == 4_000


def test_the_specifications_campaign_spends_its_budget_to_the_micro() -> None:
    ledger = ledger_of(budget=10_000_000_000)
    for offset in range(0, 5_000, 1_000):
        ledger.bill(batch_of([event_of(cost=2_500_000)] * 1_000, offset))
    assert ledger.accounts[CAMPAIGN].billed == 10_000_000_000
    assert ledger.totals[CAMPAIGN].overdelivery == 2_500_000_000
    assert [(c.threshold, c.cause.offset) for c in ledger.crossings] == [
        (Threshold.BUDGET_90, 3_599),
        (Threshold.BUDGET_100, 3_999),
    ]


def test_one_event_can_cross_both_thresholds() -> None:
    ledger = ledger_of(budget=100)
    ledger.bill(batch_of([event_of(EventType.CONVERSION, 500)]))
    assert [(c.threshold, c.billed) for c in ledger.crossings] == [
        (Threshold.BUDGET_90, 100),
        (Threshold.BUDGET_100, 100),
    ]


def test_what_was_crossed_before_is_not_crossed_again() -> None:
    ledger = ledger_of(budget=100, billed=95)
    ledger.crossed[CAMPAIGN] = {Threshold.BUDGET_90}
    ledger.bill(batch_of([event_of(cost=1)]))
    assert ledger.crossings == []
    ledger.bill(batch_of([event_of(cost=4)], 1))
    assert [c.threshold for c in ledger.crossings] == [Threshold.BUDGET_100]


def test_impressions_beyond_the_limit_are_overdelivery_and_clicks_go_on() -> None:
    ledger = ledger_of(max_impressions=2)
    impression, click = event_of(cost=CPM), event_of(EventType.CLICK, 10)
    ledger.bill(batch_of([impression, click, impression, impression, click]))
    total = ledger.totals[CAMPAIGN]
    assert (total.impressions, total.billable_impressions, total.clicks) == (3, 2, 2)
    assert (total.billed, total.overdelivery) == (2 * CPM + 20, CPM)
    (crossing,) = ledger.crossings
    assert (crossing.threshold, crossing.cause.offset) == (Threshold.MAX_IMPRESSIONS, 2)


def test_impressions_that_cost_nothing_count_towards_the_limit() -> None:
    ledger = ledger_of(max_impressions=2)
    ledger.bill(batch_of([event_of(), event_of(), event_of()]))
    assert ledger.totals[CAMPAIGN].billable_impressions == 2
    assert [c.threshold for c in ledger.crossings] == [Threshold.MAX_IMPRESSIONS]


def test_unbilled_impressions_do_not_count_towards_the_limit() -> None:
    ledger = ledger_of(max_impressions=2)
    ledger.bill(batch_of([unbilled_of(Unbilled.PAUSED)] * 5))
    assert ledger.totals[CAMPAIGN].billable_impressions == 0
    assert ledger.totals[CAMPAIGN].unbilled == {"PAUSED": 5}
    assert ledger.crossings == []


def test_a_flat_fee_is_billed_with_the_first_billable_event_only() -> None:
    flat = event_of(EventType.CLICK, 900, flat=True)
    ledger = ledger_of(budget=2_000)
    ledger.bill(batch_of([unbilled_of(Unbilled.BACKFILL), flat, flat]))
    ledger.bill(batch_of([flat], 3))
    assert [row.billed for row in ledger.rows] == [0, 900, 0, 0]
    assert ledger.totals[CAMPAIGN].overdelivery == 0
    assert ledger.accounts[CAMPAIGN].flat_billed


def test_a_flat_fee_above_the_budget_is_billed_up_to_it_once() -> None:
    flat = event_of(cost=900, flat=True)
    ledger = ledger_of(budget=500)
    ledger.bill(batch_of([flat]))
    ledger.bill(batch_of([flat], 1))
    total = ledger.totals[CAMPAIGN]
    assert (total.billed, total.overdelivery) == (500, 400)


def test_a_flat_fee_of_nothing_leaves_a_later_one_due_wherever_a_batch_ends() -> None:
    free, due = event_of(cost=0, flat=True), event_of(cost=900, flat=True)
    together, apart = ledger_of(), ledger_of()
    together.bill(batch_of([free, due]))
    apart.bill(batch_of([free]))
    apart.bill(batch_of([due], 1))
    assert together.totals[CAMPAIGN].billed == apart.totals[CAMPAIGN].billed == 900


def test_a_flat_fee_is_not_due_with_an_impression_beyond_the_limit() -> None:
    ledger = ledger_of(max_impressions=1, billable_impressions=1)
    beyond, click = event_of(cost=900, flat=True), event_of(EventType.CLICK, 900, flat=True)
    ledger.bill(batch_of([beyond, beyond, click]))
    assert [(row.billed, row.overdelivery) for row in ledger.rows] == [(0, 0), (0, 0), (900, 0)]


def test_a_duplicate_is_counted_as_such_and_in_nothing_else() -> None:
    ledger = ledger_of(budget=100)
    ledger.bill(batch_of([event_of(cost=60), event_of(cost=60, revenue=5), event_of(cost=1)]), duplicates=[1])
    total = ledger.totals[CAMPAIGN]
    assert (total.impressions, total.duplicates, total.billed, total.revenue) == (2, 1, 61, 0)
    assert [row.log_offset for row in ledger.rows] == [0, 2]
    assert ledger.crossings == []


@pytest.mark.parametrize(("billed", "risky"), [(0, False), (799, False), (800, True), (950, True)])
def test_a_campaign_is_at_risk_once_its_batch_could_reach_a_threshold(billed: int, risky: bool) -> None:
    deltas = tally([event_of(cost=60), event_of(cost=40)], [])
    accounts = {CAMPAIGN: account_of(budget=1_000, billed=billed)}
    assert at_risk(deltas.values(), accounts.values()) == ([CAMPAIGN] if risky else [])


def test_the_record_keeps_openings_only_of_campaigns_that_were_clipped() -> None:
    ledger = MemoryLedger([account_of(budget=1_000), account_of(CAMPAIGNS[1], budget=1_000)])
    exact, clipped = event_of(cost=1_000), event_of(cost=1_001, campaign_id=CAMPAIGNS[1])
    ledger.bill(batch_of([exact, clipped]))
    assert ledger.records[0].openings == {CAMPAIGNS[1]: Opening(1_000, None, flat_due=True)}


def test_revenue_that_a_browser_reported_is_kept_apart() -> None:
    ledger = ledger_of()
    told, sure = (
        event_of(EventType.CONVERSION, revenue=7, revenue_verified=known) for known in (False, True)
    )
    ledger.bill(batch_of([told, sure]))
    total = ledger.totals[CAMPAIGN]
    assert (total.revenue, total.unverified_revenue) == (14, 7)


def test_a_bot_is_in_no_count_but_invalid_traffic() -> None:
    ledger = ledger_of()
    ledger.bill(batch_of([unbilled_of(Unbilled.BOT, EventType.CLICK, revenue=9, received_at=5_000)]))
    total = ledger.totals[CAMPAIGN]
    assert (total.clicks, total.invalid_clicks, total.revenue, total.last_received_at) == (0, 1, 0, 0)
    assert ledger.rows[0].bot


def test_nothing_remaining_charges_nothing() -> None:
    remaining = Remaining(Opening(0, 0, flat_due=False))
    assert remaining.charge(event_of(EventType.CLICK, 5)) == (0, 5)
    assert remaining.charge(event_of(cost=5)) == (0, 5)
    assert remaining.charge(event_of(cost=5, flat=True)) == (0, 0)
    assert remaining.charge(unbilled_of(Unbilled.PAUSED, cost=5)) == (0, 0)
