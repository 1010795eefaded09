"""The audience of a campaign, as far as it is known: whom it names, and how many it has reached."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

from control_api.domain.campaign import Campaign
from control_api.domain.period import Interval, period_of
from control_api.domain.targeting import Audience, Evaluation, Reached, ReachedDay, targets_of
from control_api.handlers import campaigns
from control_api.handlers.actor import Actor
from control_api.handlers.performance import Reports, ReportsOf, zone_of
from control_api.handlers.ports import Store

_SINCE_EVER = date(2000, 1, 1)
_AHEAD = timedelta(days=2)


class Targeting(Protocol):
    """The rules service: it knows what rules mean, and whom they make eligible."""

    async def evaluation(self, campaign: Campaign) -> Evaluation:
        """What can be said of the campaign's rules now. If the service is away it says so."""


async def audience(
    store: Store, reports_of: ReportsOf, targeting: Targeting, actor: Actor, campaign_id: str, now: datetime
) -> Audience:
    """Raises NotFound, and Unavailable while the reach cannot be read."""
    campaign, _ = await campaigns.get(store, actor, campaign_id)
    zone, reports = await zone_of(store, actor), reports_of(actor.organization_id)
    visitors, by_day, evaluation = await asyncio.gather(
        reports.visitors(campaign_id, _SINCE_EVER, (now + _AHEAD).astimezone(UTC).date()),
        _by_day(reports, campaign_id, zone, now),
        targeting.evaluation(campaign),
    )
    days = [ReachedDay(day, count) for day, count in sorted(by_day.items()) if count]
    reached = Reached(visitors=visitors, time_zone=zone, by_day=days)
    return Audience(targets=targets_of(campaign), reached=reached, evaluation=evaluation)


async def _by_day(reports: Reports, campaign_id: str, zone: str, now: datetime) -> dict[date, int]:
    period, _ = period_of(None, None, Interval.DAY, zone, now)
    return await reports.visitors_by_day(campaign_id, period) if period else {}
