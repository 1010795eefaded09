"""A run of activity records while it is counted, and the gauges made of the windows."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from aggregator.domain.windows import MINUTE_MS, AlertRules, CampaignWindows, decode_windows
from aggregator.live_gauges import LiveGauges
from aggregator.live_take import Standing, Take
from schemas.campaign_activity import Activity, BatchActivity
from schemas.domain_events import DomainEvent
from schemas.ids import new_id

START = 29_000_160 * MINUTE_MS
RULES = AlertRules(window_minutes=15, minimum_impressions=100)


class Table(dict[bytes, bytes]):
    """What is stored between takes."""

    def __init__(self, *values: dict[bytes, bytes]) -> None:
        super().__init__(*values)
        self.standing = Standing()

    def take(self, *batches: BatchActivity, published_at: int | None = None) -> list[DomainEvent]:
        alerts: list[DomainEvent] = []
        take = self._begin()
        for batch in batches:
            take.add(batch, batch.at if published_at is None else published_at)
            if take.ends:
                alerts += self._end(take)
                take = self._begin()
        return alerts + self._end(take)

    def restart(self) -> None:
        self.standing = Standing()
        for value in self.values():
            self.standing.include(decode_windows(value))

    def _begin(self) -> Take:
        return Take(self.get, lambda: [key.decode() for key in self], RULES, self.standing)

    def _end(self, take: Take) -> list[DomainEvent]:
        alerts: list[DomainEvent] = []
        for change in take.changes():
            if change is None:
                continue
            alerts += change.alerts
            if change.value is None:
                self.pop(change.campaign_id.encode(), None)
            else:
                self[change.campaign_id.encode()] = change.value
        return alerts

    def windows(self, campaign: str) -> CampaignWindows:
        return decode_windows(self[campaign.encode()])


def batch(number: int, at: int, *activities: Activity) -> BatchActivity:
    return BatchActivity(0, 0, number, number + 1, at, activities)


def falling(campaign: str) -> list[BatchActivity]:
    """An hour at 10 %, then one at 1 %; a batch a minute."""
    return [
        batch(minute, START + minute * MINUTE_MS, Activity(campaign, "o", 100, 10 if minute < 60 else 1))
        for minute in range(120)
    ]


def test_alerts_do_not_depend_on_how_the_topic_is_cut_into_takes() -> None:
    campaign = new_id()
    batches = falling(campaign)
    whole = Table().take(*batches)
    table = Table()
    singly = [alert for batch in batches for alert in table.take(batch)]
    assert singly == whole
    assert [alert.data["metric"] for alert in whole] == ["ctr"]


def test_what_is_read_again_without_its_state_has_the_same_id() -> None:
    campaign = new_id()
    (first,) = Table().take(*falling(campaign))
    (second,) = Table().take(*falling(campaign))
    (other,) = Table().take(*falling(new_id()))
    assert first.id == second.id != other.id


def test_what_is_read_again_with_its_state_is_not_told_again() -> None:
    campaign = new_id()
    table = Table()
    table.take(*falling(campaign))
    stored = dict(table)
    table.restart()
    assert table.take(*falling(campaign)) == []
    assert table == stored


def test_a_campaign_without_records_of_its_own_is_judged_as_time_goes_on() -> None:
    campaign, other = new_id(), new_id()
    table = Table()
    table.take(*falling(campaign)[:68])
    # The window's ninth minute at 1 % has begun; only the other campaign goes on.
    alerts = table.take(
        batch(68, START + 68 * MINUTE_MS, Activity(campaign, "o", 100, 1)),
        batch(69, START + 70 * MINUTE_MS, Activity(other, "o", 1)),
    )
    assert [alert.subject for alert in alerts] == [campaign]
    assert alerts[0].data["window"] == {"from": "2025-02-20T00:54:00.000Z", "to": "2025-02-20T01:09:00.000Z"}


def test_a_stamp_from_the_future_counts_when_it_was_published() -> None:
    campaign = new_id()
    table = Table()
    table.take(batch(1, 250_000_000_000_000, Activity(campaign, "o", 7)), published_at=START)
    assert table.windows(campaign).last_hour(START).impressions == 7
    assert table.standing.watermark == START


def test_a_batch_of_duplicates_only_makes_no_windows() -> None:
    table = Table()
    assert table.take(batch(1, 0, Activity(new_id(), "o"))) == []
    assert table == {}


def test_windows_that_can_matter_no_more_are_removed() -> None:
    gone, here = new_id(), new_id()
    table = Table()
    table.take(batch(1, START, Activity(gone, "o", 1)))
    table.take(batch(2, START + 27 * 60 * MINUTE_MS, Activity(here, "o", 1)))
    assert list(table) == [here.encode()]


def test_windows_of_another_version_begin_anew() -> None:
    campaign = new_id()
    table = Table({campaign.encode(): b"\xc1 not ours"})
    table.take(batch(1, START, Activity(campaign, "o", 3)))
    assert table.windows(campaign).last_hour(START).impressions == 3


def impressions(
    table: Table, campaigns: Sequence[str], now: int, most: int = 10
) -> dict[tuple[str, str], float]:
    """What is shown at `now`, by campaign and window."""
    gauges = LiveGauges(lambda: [(each, table.windows(each)) for each in campaigns], lambda: now, most)
    shown = generate_latest(_registered(gauges)).decode()
    return {
        (sample.labels["campaign"], sample.labels["window"]): sample.value
        for family in text_string_to_metric_families(shown)
        for sample in family.samples
        if sample.name == "flightline_campaign_impressions"
    }


def _registered(gauges: LiveGauges) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(gauges)
    return registry


def test_campaigns_that_are_quiet_for_an_hour_have_no_gauges() -> None:
    campaign = new_id()
    table = Table()
    table.take(batch(1, START, Activity(campaign, "o", 3)))
    assert impressions(table, [campaign], START) == {(campaign, "1m"): 3, (campaign, "1h"): 3}
    assert impressions(table, [campaign], START + 2 * MINUTE_MS) == {(campaign, "1m"): 0, (campaign, "1h"): 3}
    assert impressions(table, [campaign], START + 60 * MINUTE_MS) == {}


def test_gauges_are_bounded_to_the_campaigns_with_most_impressions() -> None:
    campaigns = [new_id() for _ in range(5)]
    table = Table()
    table.take(batch(1, START, *(Activity(c, "o", n + 1) for n, c in enumerate(campaigns))))
    shown = impressions(table, campaigns, START, most=2)
    assert {campaign: count for (campaign, window), count in shown.items() if window == "1h"} == {
        campaigns[3]: 4,
        campaigns[4]: 5,
    }
    assert impressions(table, [], START, most=2) == {}
