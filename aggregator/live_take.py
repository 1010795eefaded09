"""A stretch of activity, up to a minute of it, on its way into the windows of its campaigns.

Windows are kept encoded, some kilobytes each: taking one apart, counting and putting it together again takes
a hundred times as long as adding what a batch brought to a sum. So sums are kept for a minute, and each
campaign's windows are changed once.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid5

import msgspec
import structlog

from aggregator.domain.windows import (
    AlertRules,
    CampaignWindows,
    Fall,
    Fresh,
    decode_windows,
    encode_windows,
    is_nothing,
    judged_minute,
)
from schemas.campaign_activity import Activity, BatchActivity
from schemas.domain_events import DomainEvent, DomainEventType, time_of

log = structlog.get_logger(__name__)

SOURCE = "/flightline/aggregator"

_NOTHING = (-1, -1)


class Standing(msgspec.Struct):
    """How far counting has come: `watermark` is the newest event time (epoch ms), `counted_to` has of each
    partition of `tracking-events` the (incarnation, next offset) that any windows have counted up to. A batch
    above that is new to all of them."""

    watermark: int = 0
    counted_to: dict[int, tuple[int, int]] = {}

    def include(self, windows: CampaignWindows) -> None:
        """After a restart: what was judged before must not be judged again by windows that have gone on."""
        self.watermark = max(self.watermark, windows.newest_at)
        for partition, seen in windows.seen.items():
            self.reach(partition, seen)

    def reach(self, partition: int, here: tuple[int, int]) -> None:
        """This was counted."""
        if here > self.counted_to.get(partition, _NOTHING):
            self.counted_to[partition] = here


class Change(msgspec.Struct, frozen=True):
    """What is to be written of a campaign, None for windows that are over; the alerts go out before."""

    campaign_id: str
    value: bytes | None
    alerts: list[DomainEvent]


class Take:
    """Counts records with `add` until one `ends` it: then `changes` are to be written, and another begins.

    `stored` and `stored_ids` look at what was written. `standing` is changed by what is counted.
    """

    def __init__(
        self,
        stored: Callable[[bytes], bytes | None],
        stored_ids: Callable[[], Sequence[str]],
        rules: AlertRules,
        standing: Standing,
    ) -> None:
        self.standing = standing
        self.fresh: dict[str, Fresh] = {}
        self.hours: dict[str, int] = {}
        """Impressions of the last hour, of all campaigns that `changes` has looked at."""
        self._stored = stored
        self._stored_ids = stored_ids
        self._rules = rules
        self._seen: dict[str, dict[int, tuple[int, int]]] = {}
        self._began = standing.watermark
        self._counted_to = dict(standing.counted_to)

    @property
    def ends(self) -> bool:
        """Whether a minute is over, and all campaigns are to be judged before anything else is counted."""
        return judged_minute(self.standing.watermark) > judged_minute(self._began)

    def add(self, batch: BatchActivity, published_at: int) -> None:
        """Counts one batch."""
        # A stamp from the future, from a clock that is wrong, must not push all windows out of their rings.
        at = min(batch.at, published_at)
        here = (batch.incarnation, batch.next_offset)
        is_new = here > self._counted_to.get(batch.partition, _NOTHING)
        for activity in batch.campaigns:
            if is_nothing(activity) or (not is_new and self._is_counted(here, batch, activity)):
                continue
            fresh = self.fresh.get(activity.campaign_id)
            if fresh is None:
                fresh = self.fresh[activity.campaign_id] = Fresh(activity.organization_id)
            fresh.add(batch, activity, at)
        self.standing.reach(batch.partition, here)
        self.standing.watermark = max(self.standing.watermark, at)

    def changes(self) -> Iterator[Change | None]:
        """The windows that have changed; when a minute is over all campaigns are looked at, None for those
        that have not.

        Those that carry the watermark come last: once they are written, whoever goes on after a crash takes
        the minute for judged.
        """
        newest = self.standing.watermark
        minute = judged_minute(newest) if self.ends else None
        last = [campaign_id for campaign_id, fresh in self.fresh.items() if fresh.newest_at == newest]
        others = {*self.fresh, *(self._stored_ids() if minute is not None else ())}.difference(last)
        for campaign_id in (*others, *last):
            yield self._change(campaign_id, minute)

    def _change(self, campaign_id: str, minute: int | None) -> Change | None:
        fresh = self.fresh.get(campaign_id)
        windows = self.windows(campaign_id)
        if windows is None:
            return None
        alerts: list[DomainEvent] = []
        is_changed = fresh is not None
        if minute is not None:
            before = msgspec.to_builtins(windows.raised)
            falls = windows.judge(minute, self._rules)
            alerts = [alert_of(campaign_id, windows.organization_id, fall) for fall in falls]
            is_changed |= msgspec.to_builtins(windows.raised) != before
        self.hours[campaign_id] = windows.last_hour(self.standing.watermark).impressions
        if windows.is_stale(self.standing.watermark):
            return Change(campaign_id, None, alerts)
        if not is_changed:
            return None
        return Change(campaign_id, encode_windows(windows), alerts)

    def windows(self, campaign_id: str) -> CampaignWindows | None:
        """A campaign's windows with what is fresh; None when nothing is known of it."""
        windows, fresh = self._decoded(campaign_id), self.fresh.get(campaign_id)
        if fresh is None:
            return windows
        if windows is None:
            windows = CampaignWindows(fresh.organization_id, fresh.began_at)
        windows.merge(fresh)
        return windows

    def _is_counted(self, here: tuple[int, int], batch: BatchActivity, activity: Activity) -> bool:
        """What Faust delivers again after a restart, or the outbox's relay sends twice."""
        seen = self._seen.get(activity.campaign_id)
        if seen is None:
            windows = self._decoded(activity.campaign_id)
            seen = self._seen[activity.campaign_id] = {} if windows is None else windows.seen
        return here <= seen.get(batch.partition, _NOTHING)

    def _decoded(self, campaign_id: str) -> CampaignWindows | None:
        value = self._stored(campaign_id.encode())
        return decoded(value) if value is not None else None


def decoded(value: bytes) -> CampaignWindows | None:
    """The windows of a stored value; None for those of another version of this program: a campaign's windows
    begin anew, they fill within a day."""
    try:
        return decode_windows(value)
    except msgspec.MsgspecError as error:
        log.warning("live_windows.unreadable_windows", error=str(error))
        return None


def alert_of(campaign_id: str, organization_id: str, fall: Fall) -> DomainEvent:
    """The CloudEvent of a fall. Its id follows from campaign, metric and window: a second one is known as
    such."""
    return DomainEvent(
        id=str(uuid5(UUID(campaign_id), f"{fall.metric}/{fall.begin}/{fall.end}")),
        source=SOURCE,
        type=DomainEventType.PERFORMANCE_ALERT,
        subject=campaign_id,
        time=_time_of(fall.end),
        organization=organization_id,
        data={
            "metric": fall.metric,
            "window": {"from": _time_of(fall.begin), "to": _time_of(fall.end)},
            "current": round(fall.current, 4),
            "baseline": round(fall.baseline, 4),
        },
    )


def _time_of(epoch_ms: int) -> str:
    return time_of(datetime.fromtimestamp(epoch_ms / 1000, UTC))
