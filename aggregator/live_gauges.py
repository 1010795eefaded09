"""The live windows as gauges for Prometheus, bounded in number."""

import math
from collections.abc import Iterable

from aggregator import metrics
from aggregator.domain.windows import CampaignWindows, Counts


class Gauges:
    """The gauges of the campaigns that were active in the last hour; those of others are removed."""

    def __init__(self, max_campaigns: int) -> None:
        self._max_campaigns = max_campaigns
        self._shown: set[str] = set()

    def show(self, campaigns: Iterable[tuple[str, CampaignWindows]], now: int) -> None:
        """Sets the gauges to what the windows hold at `now` (epoch ms)."""
        active = [
            (campaign_id, hour, windows.last_minute(now))
            for campaign_id, windows in campaigns
            if (hour := windows.last_hour(now)) != Counts()
        ]
        active.sort(key=lambda entry: entry[1].impressions, reverse=True)
        shown = set()
        for campaign_id, hour, minute in active[: self._max_campaigns]:
            shown.add(campaign_id)
            _set_gauges(campaign_id, "1m", minute)
            _set_gauges(campaign_id, "1h", hour)
        for gone in self._shown - shown:
            _remove_gauges(gone)
        self._shown = shown


def _set_gauges(campaign_id: str, window: str, counts: Counts) -> None:
    metrics.campaign_impressions.labels(campaign_id, window).set(counts.impressions)
    metrics.campaign_clicks.labels(campaign_id, window).set(counts.clicks)
    metrics.campaign_conversions.labels(campaign_id, window).set(counts.conversions)
    metrics.campaign_cost.labels(campaign_id, window).set(counts.billed)
    ctr = counts.ctr
    metrics.campaign_ctr.labels(campaign_id, window).set(math.nan if ctr is None else ctr)


def _remove_gauges(campaign_id: str) -> None:
    for gauge in metrics.CAMPAIGN_GAUGES:
        for window in ("1m", "1h"):
            gauge.remove(campaign_id, window)
