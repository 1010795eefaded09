"""When a door is closed, and what is billable all the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.domain.gate import decide, serving
from schemas.reasons import CampaignStatus, EventType, StatusReason, Threshold, Unbilled
from tests.unit.ingest.given import DAY, HOUR, NOW, campaign, gate

CLICK, CONVERSION, IMPRESSION = EventType.CLICK, EventType.CONVERSION, EventType.IMPRESSION


def verdict(state, budget_gate=None, now=NOW, event_type=IMPRESSION):
    decided = decide(state, budget_gate, now, event_type)
    return decided.serve, decided.reason


def test_a_running_campaign_serves_and_bills():
    assert verdict(campaign()) == (True, None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": CampaignStatus.DRAFT}, Unbilled.DRAFT),
        ({"status": CampaignStatus.PAUSED}, Unbilled.PAUSED),
        ({"status": CampaignStatus.PAUSED, "status_reason": StatusReason.BUDGET_90}, Unbilled.BUDGET_90),
        ({"status": CampaignStatus.COMPLETED}, Unbilled.END_DATE),
        ({"status": CampaignStatus.COMPLETED, "status_reason": StatusReason.BUDGET_100}, Unbilled.BUDGET_100),
        (
            {"status": CampaignStatus.COMPLETED, "status_reason": StatusReason.MAX_IMPRESSIONS},
            Unbilled.MAX_IMPRESSIONS,
        ),
        ({"status": CampaignStatus.CANCELLED, "status_reason": StatusReason.BUDGET_90}, Unbilled.CANCELLED),
        ({"starts_at": NOW + 1}, Unbilled.NOT_STARTED),
        ({"ends_at": NOW}, Unbilled.END_DATE),
    ],
)
def test_a_state_that_is_not_running_closes_the_door_and_says_why(changes, reason):
    state = campaign(**changes)
    assert verdict(state) == (False, reason)
    assert serving(state, None, NOW) == reason


def test_a_campaign_runs_from_its_start_to_the_moment_before_its_end():
    state = campaign(starts_at=NOW, ends_at=NOW + 1)
    assert verdict(state) == (True, None)
    assert verdict(state, now=NOW + 1) == (False, Unbilled.END_DATE)
    assert verdict(campaign(ends_at=None)) == (True, None)


@pytest.mark.parametrize(
    ("threshold", "reason"),
    [
        (Threshold.BUDGET_90, Unbilled.BUDGET_90),
        (Threshold.BUDGET_100, Unbilled.BUDGET_100),
        (Threshold.MAX_IMPRESSIONS, Unbilled.MAX_IMPRESSIONS),
    ],
)
def test_a_crossing_of_the_states_budget_version_closes_the_door(threshold, reason):
    assert verdict(campaign(), gate(threshold)) == (False, reason)


def test_an_acknowledged_90_opens_the_door_but_100_and_max_impressions_cannot_be_acknowledged():
    state = campaign(acknowledged_threshold=90)
    assert verdict(state, gate(Threshold.BUDGET_90)) == (True, None)
    assert verdict(state, gate(Threshold.BUDGET_90, Threshold.BUDGET_100)) == (False, Unbilled.BUDGET_100)
    assert verdict(state, gate(Threshold.MAX_IMPRESSIONS)) == (False, Unbilled.MAX_IMPRESSIONS)


def test_a_crossing_of_an_older_budget_version_closes_nothing():
    assert verdict(campaign(), gate(Threshold.BUDGET_100, budget_version=2)) == (True, None)


def test_a_crossing_of_a_version_that_the_state_does_not_know_yet_closes_whatever_was_acknowledged():
    state = campaign(acknowledged_threshold=90)
    assert verdict(state, gate(Threshold.BUDGET_90, budget_version=4)) == (False, Unbilled.BUDGET_90)
    assert verdict(state, gate(budget_version=4))[0] is False


PAUSED_SINCE_AN_HOUR = campaign(status=CampaignStatus.PAUSED, closed_since=NOW - HOUR)


@pytest.mark.parametrize(
    ("state", "budget_gate", "closed_at"),
    [
        (PAUSED_SINCE_AN_HOUR, None, NOW - HOUR),
        (campaign(ends_at=NOW - HOUR), None, NOW - HOUR),
        (campaign(), gate(Threshold.BUDGET_90), NOW - HOUR),
        (campaign(), gate(Threshold.BUDGET_90, Threshold.MAX_IMPRESSIONS), NOW - HOUR),
    ],
)
def test_late_clicks_and_conversions_stay_billable_for_their_windows(state, budget_gate, closed_at):
    assert verdict(state, budget_gate, event_type=CLICK) == (False, None)
    assert verdict(state, budget_gate, closed_at + DAY - 1, CLICK) == (False, None)
    assert verdict(state, budget_gate, closed_at + DAY, CLICK)[1] is not None
    assert verdict(state, budget_gate, closed_at + 30 * DAY - 1, CONVERSION) == (False, None)
    assert verdict(state, budget_gate, closed_at + 30 * DAY, CONVERSION)[1] is not None


@pytest.mark.parametrize("event_type", [IMPRESSION, EventType.BOUNCE, EventType.UNSUBSCRIBE])
def test_other_late_events_are_not_billable(event_type):
    assert verdict(PAUSED_SINCE_AN_HOUR, event_type=event_type) == (False, Unbilled.PAUSED)


@pytest.mark.parametrize(
    ("state", "budget_gate"),
    [
        (campaign(status=CampaignStatus.CANCELLED, closed_since=NOW - HOUR), None),
        (campaign(status=CampaignStatus.DRAFT, closed_since=NOW - HOUR), None),
        (campaign(starts_at=NOW + HOUR), None),
        (campaign(), gate(Threshold.BUDGET_90, Threshold.BUDGET_100)),
        (PAUSED_SINCE_AN_HOUR, gate(Threshold.BUDGET_100)),
        (campaign(status=CampaignStatus.PAUSED, closed_since=None), None),
    ],
)
def test_nothing_is_billable_late_after_the_whole_budget_a_stop_a_draft_or_without_a_run(state, budget_gate):
    assert verdict(state, budget_gate, event_type=CONVERSION)[1] is not None


def test_the_window_counts_from_the_first_of_several_closures():
    state = campaign(status=CampaignStatus.PAUSED, closed_since=NOW - HOUR, ends_at=NOW - DAY)
    assert verdict(state, event_type=CLICK) == (False, Unbilled.END_DATE)


@given(
    status=st.sampled_from(CampaignStatus),
    reason=st.none() | st.sampled_from(StatusReason),
    closed=st.none() | st.integers(NOW - 90 * DAY, NOW),
    dates=st.tuples(st.integers(NOW - DAY, NOW + DAY), st.none() | st.integers(NOW - DAY, NOW + DAY)),
    acknowledged=st.sampled_from([0, 90]),
    thresholds=st.lists(st.sampled_from(Threshold), unique=True),
    gate_version=st.integers(1, 5),
    event_type=st.sampled_from(EventType),
)
def test_every_combination_has_a_verdict_and_what_is_served_is_billable(
    status, reason, closed, dates, acknowledged, thresholds, gate_version, event_type
):
    state = campaign(
        status=status,
        status_reason=reason,
        closed_since=closed,
        starts_at=dates[0],
        ends_at=dates[1],
        acknowledged_threshold=acknowledged,
    )
    budget_gate = gate(*thresholds, budget_version=gate_version)
    serve, unbilled = verdict(state, budget_gate, NOW, event_type)
    assert serve == (serving(state, budget_gate, NOW) is None)
    assert not (serve and unbilled)
    if event_type is IMPRESSION:
        assert serve == (unbilled is None)
