"""What holds of every log, however it is cut into batches."""

import msgspec
import pytest
from hypothesis import given, settings

from schemas.events import TrackingEvent
from schemas.reasons import EventType, Threshold, Unbilled
from tests.unit.aggregator.billing_cases import (
    Log,
    MemoryLedger,
    account_of,
    batch_of,
    billed_in_cuts,
    logs,
    unbilled_of,
)

PROPERTY = settings(max_examples=50, deadline=None)


def counted(log: Log) -> list[TrackingEvent]:
    """The events that are no duplicates."""
    dropped = set(log.duplicates)
    return [event for index, event in enumerate(log.events) if index not in dropped]


def settled(log: Log) -> MemoryLedger:
    return billed_in_cuts(log.accounts, log.events, log.duplicates, log.cuts)


@PROPERTY
@given(logs())
def test_billed_is_never_above_the_budget(log: Log) -> None:
    for account in settled(log).accounts.values():
        assert account.budget is None or 0 <= account.billed <= account.budget


@PROPERTY
@given(logs())
def test_max_impressions_is_never_exceeded(log: Log) -> None:
    for account in settled(log).accounts.values():
        assert account.max_impressions is None or account.billable_impressions <= account.max_impressions


@PROPERTY
@given(logs())
def test_billed_and_overdelivery_are_what_the_billable_events_cost(log: Log) -> None:
    ledger = settled(log)
    for before in log.accounts:
        total = ledger.totals.get(before.campaign_id)
        billable = [e for e in counted(log) if e.campaign_id == before.campaign_id and e.billable]
        charged = 0 if total is None else total.billed + total.overdelivery
        if not any(event.flat for event in billable):
            assert charged == sum(event.cost for event in billable)
        else:
            assert charged in {0, 50}, "a flat fee is due once"
        if before.max_impressions is None and any(event.flat and event.cost for event in billable):
            assert charged == 50, "a flat fee is due with the first billable event"


@PROPERTY
@given(logs())
def test_the_outcome_does_not_depend_on_how_the_log_is_cut(log: Log) -> None:
    cut = settled(log)
    singly = billed_in_cuts(log.accounts, log.events, log.duplicates, range(1, len(log.events)))
    whole = billed_in_cuts(log.accounts, log.events, log.duplicates, [])
    jointly = billed_in_cuts(log.accounts, log.events, log.duplicates, log.cuts, jointly=True)
    for other in (cut, singly, jointly):
        assert other.accounts == whole.accounts
        assert other.totals == whole.totals
        assert other.crossings == whole.crossings
        assert other.rows == whole.rows


@PROPERTY
@given(logs())
def test_batches_of_one_transaction_are_recorded_as_if_each_had_one(log: Log) -> None:
    jointly = billed_in_cuts(log.accounts, log.events, log.duplicates, log.cuts, jointly=True)
    assert jointly.records == settled(log).records


@PROPERTY
@given(logs())
def test_each_threshold_is_crossed_exactly_once_a_version(log: Log) -> None:
    ledger = settled(log)
    for account in ledger.accounts.values():
        crossed = [c.threshold for c in ledger.crossings if c.campaign_id == account.campaign_id]
        assert len(crossed) == len(set(crossed))
        moved = any(e.billable and e.campaign_id == account.campaign_id for e in counted(log))
        expected = set()
        if account.budget is not None and account.billed * 10 >= account.budget * 9:
            expected.add(Threshold.BUDGET_90)
        if account.budget is not None and account.billed >= account.budget:
            expected.add(Threshold.BUDGET_100)
        if account.billable_impressions == account.max_impressions:
            expected.add(Threshold.MAX_IMPRESSIONS)
        assert set(crossed) == (expected if moved else set())


@PROPERTY
@given(logs())
def test_a_crossing_is_at_the_event_that_caused_it(log: Log) -> None:
    ledger = settled(log)
    for crossing in ledger.crossings:
        assert (crossing.cause.incarnation, crossing.cause.partition, crossing.cause.index) == (1, 2, 0)
        at = crossing.cause.offset
        event = log.events[at]
        assert event.billable
        assert at not in log.duplicates
        assert (event.campaign_id, event.received_at) == (crossing.campaign_id, crossing.received_at)
        rows = [r for r in ledger.rows if r.campaign_id == event.campaign_id and r.log_offset <= at]
        before = next(a for a in log.accounts if a.campaign_id == event.campaign_id)
        assert crossing.billed == before.billed + sum(row.billed for row in rows)


@PROPERTY
@given(logs())
def test_rows_sum_to_the_record_and_to_the_account(log: Log) -> None:
    ledger = settled(log)
    for record in ledger.records:
        rows = [r for r in ledger.rows if record.first_offset <= r.log_offset < record.next_offset]
        assert len(rows) == record.event_rows
        assert sum(row.billed for row in rows) == record.billed
    for campaign_id, total in ledger.totals.items():
        rows = [row for row in ledger.rows if row.campaign_id == campaign_id]
        assert sum(row.billed for row in rows) == total.billed
        assert sum(row.overdelivery for row in rows) == total.overdelivery
        assert all(row.cost == row.billed + row.overdelivery for row in rows)
        assert sum(row.revenue for row in rows if not row.bot) == total.revenue


@PROPERTY
@given(logs())
def test_counts_exclude_duplicates_and_bots_and_include_unbilled(log: Log) -> None:
    ledger = settled(log)
    for campaign_id, total in ledger.totals.items():
        own = [event for event in counted(log) if event.campaign_id == campaign_id]
        people = [event.type for event in own if event.reason is not Unbilled.BOT]
        bots = [event.type for event in own if event.reason is Unbilled.BOT]
        assert total.impressions == people.count(EventType.IMPRESSION)
        assert total.clicks == people.count(EventType.CLICK)
        assert total.conversions == people.count(EventType.CONVERSION)
        assert total.bounces == people.count(EventType.BOUNCE)
        assert total.unsubscribes == people.count(EventType.UNSUBSCRIBE)
        assert total.invalid_impressions == bots.count(EventType.IMPRESSION)
        assert total.invalid_clicks == bots.count(EventType.CLICK)
        assert total.invalid_conversions == bots.count(EventType.CONVERSION)
        reasons = [event.reason for event in own if event.reason not in {None, Unbilled.BOT}]
        assert sum(total.unbilled.values()) == len(reasons)
        assert Unbilled.BOT not in total.unbilled
        assert total.duplicates == sum(log.events[i].campaign_id == campaign_id for i in log.duplicates)


@PROPERTY
@given(logs())
def test_rows_are_the_same_whoever_computes_them(log: Log) -> None:
    first, second = settled(log), settled(log)
    assert first.rows == second.rows
    assert [msgspec.json.encode(r) for r in first.records] == [msgspec.json.encode(r) for r in second.records]


@pytest.mark.parametrize("reason", list(Unbilled))
def test_every_reason_has_a_place_in_the_counts(reason: Unbilled) -> None:
    ledger = MemoryLedger([account_of(budget=100)])
    ledger.bill(batch_of([unbilled_of(reason)]))
    (total,) = ledger.totals.values()
    assert total.impressions + total.invalid_impressions == 1
    assert total.unbilled == ({} if reason is Unbilled.BOT else {reason.value: 1})
    assert (total.billed, total.overdelivery, ledger.crossings) == (0, 0, [])
