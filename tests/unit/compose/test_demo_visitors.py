"""Simulated visitors behave as their campaign says, and send what the door takes."""

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest

from compose.demo.scenario import PLOTS, SMALL, Plot, Running
from compose.visitors import Crowd, totals
from ingest.domain.incoming import IncomingEvent
from schemas.reasons import EventType

NOW = datetime(2026, 11, 23, 10, tzinfo=UTC)
CAMPAIGN = "01930000-0000-7000-8000-000000000001"


def running(**changes: object) -> Running:
    plot = Plot(name="x", model="CPM", views=50, click_rate=0.2, conversion_rate=0.5)
    return Running(msgspec.structs.replace(plot, **changes), CAMPAIGN, None)


def test_views_clicks_and_sales_come_at_their_rates() -> None:
    crowd = Crowd(seed=1)
    events = [event for _ in range(2_000) for event in crowd.events(running(), 0.1, NOW)]
    kinds = Counter(event["type"] for event in events)
    assert kinds[EventType.IMPRESSION] == pytest.approx(10_000, rel=0.05)
    assert kinds[EventType.CLICK] == pytest.approx(2_000, rel=0.1)
    assert kinds[EventType.CONVERSION] == pytest.approx(1_000, rel=0.15)
    assert len({event["eventId"] for event in events}) == len(events)


def test_an_ad_server_states_costs_within_its_bounds_for_impressions_only() -> None:
    events = Crowd(seed=2).events(running(cost=("0.000050", "0.000450")), 10, NOW)
    for event in events:
        assert ("cost" in event) is (event["type"] is EventType.IMPRESSION)
        if "cost" in event:
            assert Decimal("0.00005") <= event["cost"]["amount"] <= Decimal("0.00045")


def test_the_door_can_decode_every_event() -> None:
    encoder = msgspec.json.Encoder(decimal_format="number")
    for plot in PLOTS:
        for event in Crowd(seed=3).events(Running(plot, CAMPAIGN, None), 20, NOW):
            msgspec.json.decode(encoder.encode(event), type=IncomingEvent)


def test_the_small_campaign_is_used_up_within_the_time_of_the_demo() -> None:
    small = next(plot for plot in PLOTS if plot.name == SMALL)
    assert small.budget is not None
    impressions = Decimal(small.budget) * 1000 / Decimal(small.price)
    assert impressions / Decimal(small.views) < 40, "seconds"
    assert Decimal(small.budget) % (Decimal(small.price) / 1000) != 0, "the last impression is billed in part"


def test_promised_events_are_added_up_by_type() -> None:
    counted = Counter({(CAMPAIGN, EventType.IMPRESSION): 5, (CAMPAIGN, EventType.CLICK): 2})
    assert totals(counted, CAMPAIGN) == (5, 2, 0)
    assert totals(counted, "other") == (0, 0, 0)
