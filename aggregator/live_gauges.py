"""The live windows as gauges for Prometheus, bounded in number, made when it asks for them."""

import math
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from aggregator.domain.windows import CampaignWindows, Counts

Campaigns = Iterable[tuple[str, CampaignWindows]]

_LABELS = ("campaign", "window")


class LiveGauges(Collector):
    """Gauges of campaigns that were active in the last hour, at most `most` of them: those with the most
    impressions in it.

    `campaigns` gives them with their windows, and `now` the present (epoch ms), whenever Prometheus asks:
    ten thousand values on a schedule of our own would be set for nobody, most of the time.
    """

    def __init__(self, campaigns: Callable[[], Campaigns], now: Callable[[], int], most: int) -> None:
        self._campaigns = campaigns
        self._now = now
        self._most = most

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Names only: a registry asks for them when this is registered."""
        return _families(())

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Gauges of the windows as they are now."""
        now = self._now()
        active = [
            (campaign_id, hour, windows.last_minute(now))
            for campaign_id, windows in self._campaigns()
            if (hour := windows.last_hour(now)) != Counts()
        ]
        active.sort(key=lambda entry: entry[1].impressions, reverse=True)
        return _families(active[: self._most])


def _families(active: Iterable[tuple[str, Counts, Counts]]) -> Iterator[GaugeMetricFamily]:
    """Of the last minute and hour. Counts exclude duplicates and bots."""
    impressions = _gauge("impressions", "Impressions in the window")
    clicks = _gauge("clicks", "Clicks in the window")
    conversions = _gauge("conversions", "Conversions in the window")
    cost = _gauge("cost_micros", "Billed in the window, micros of the currency")
    ctr = _gauge("ctr_percent", "Clicks in percent of impressions; NaN without")
    for campaign_id, hour, minute in active:
        for window, counts in (("1m", minute), ("1h", hour)):
            labels = (campaign_id, window)
            impressions.add_metric(labels, counts.impressions)
            clicks.add_metric(labels, counts.clicks)
            conversions.add_metric(labels, counts.conversions)
            cost.add_metric(labels, counts.billed)
            ctr.add_metric(labels, math.nan if counts.ctr is None else counts.ctr)
    yield from (impressions, clicks, conversions, cost, ctr)


def _gauge(name: str, meaning: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"flightline_campaign_{name}", meaning, labels=_LABELS)
