"""What the world is told of a billed batch."""

import msgspec

from aggregator.domain.announcements import MOST_CAMPAIGNS, activity_of, gates_of
from aggregator.domain.billing import tally
from aggregator.domain.crossing import Crossing
from schemas.budget_gates import Coordinates
from schemas.campaign_activity import Activity
from schemas.ids import new_id
from schemas.reasons import EventType, Threshold, Unbilled
from tests.unit.aggregator.billing_cases import (
    CAMPAIGNS,
    ORGANIZATION,
    account_of,
    batch_of,
    event_of,
    unbilled_of,
)

KAFKA_TAKES = 1_000_000
"""Bytes: a little below the default of brokers and clients."""

B90, B100, MAX = Threshold.BUDGET_90, Threshold.BUDGET_100, Threshold.MAX_IMPRESSIONS


def crossing_of(threshold: Threshold, offset: int, billed: int, campaign: str = CAMPAIGNS[0]) -> Crossing:
    return Crossing(
        campaign_id=campaign,
        organization_id=ORGANIZATION,
        budget_version=3,
        threshold=threshold,
        billed=billed,
        received_at=offset * 10,
        cause=Coordinates(1, 2, offset, 0),
    )


def test_a_gate_tells_all_that_its_version_has_crossed_by_its_newest_crossing() -> None:
    account = account_of(budget=100, budget_version=3, gate_version=7)
    (gate,) = gates_of(
        [crossing_of(MAX, 4, 95), crossing_of(B100, 6, 100)],
        {CAMPAIGNS[0]: account},
        {CAMPAIGNS[0]: frozenset({B90})},
    )
    assert gate.thresholds == (B90, B100, MAX)
    assert (gate.version, gate.budget_version, gate.billed, gate.at) == (8, 3, 100, 60)
    assert gate.cause == Coordinates(1, 2, 6, 0)
    assert (gate.campaign_id, gate.organization_id) == (CAMPAIGNS[0], ORGANIZATION)


def test_each_campaign_has_a_gate_of_its_own() -> None:
    accounts = {campaign: account_of(campaign, budget_version=3) for campaign in CAMPAIGNS}
    gates = gates_of(
        [crossing_of(B90, 1, 90), crossing_of(B90, 2, 190, CAMPAIGNS[1])],
        accounts,
        {CAMPAIGNS[2]: frozenset({B90})},
    )
    assert [(gate.campaign_id, gate.thresholds, gate.billed) for gate in gates] == [
        (CAMPAIGNS[0], (B90,), 90),
        (CAMPAIGNS[1], (B90,), 190),
    ]


def test_no_crossing_is_no_gate() -> None:
    assert gates_of([], {}, {CAMPAIGNS[0]: frozenset({B90})}) == []


def test_activity_tells_what_the_batch_added() -> None:
    events = [
        event_of(cost=5, received_at=10),
        event_of(EventType.CLICK, received_at=30),
        event_of(EventType.CONVERSION, 7, campaign_id=CAMPAIGNS[1], revenue=9, received_at=20),
        unbilled_of(Unbilled.BOT, received_at=99),
        event_of(cost=5, received_at=98),
    ]
    batch = batch_of(events, 40)
    (activity,) = activity_of(batch, tally(events, [4]))
    assert (activity.incarnation, activity.partition) == (1, 2)
    assert (activity.first_offset, activity.next_offset, activity.at) == (40, 45, 30)
    assert activity.campaigns == (
        Activity(CAMPAIGNS[0], ORGANIZATION, impressions=1, clicks=1, billed=5),
        Activity(CAMPAIGNS[1], ORGANIZATION, conversions=1, billed=7, revenue=9),
    )


def test_a_batch_without_events_has_an_activity_without_campaigns() -> None:
    (activity,) = activity_of(batch_of([], 40), {})
    assert (activity.at, activity.campaigns) == (0, ())


def test_a_batch_of_very_many_campaigns_is_told_in_records_that_kafka_takes() -> None:
    campaigns = [new_id() for _ in range(2 * MOST_CAMPAIGNS + 1)]
    events = [event_of(campaign_id=campaign, cost=10**14) for campaign in campaigns]
    activities = activity_of(batch_of(events), tally(events, []))
    assert [a.campaign_id for part in activities for a in part.campaigns] == campaigns
    assert {(part.first_offset, part.next_offset) for part in activities} == {(0, len(events))}
    assert max(len(msgspec.json.encode(part)) for part in activities) < KAFKA_TAKES
