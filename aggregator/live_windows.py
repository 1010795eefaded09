"""Live windows: a Faust agent that counts `campaign-activity` per campaign, for Prometheus and for alerts.

No decision about money depends on it. The windows of a campaign are one value of a Faust table with memory
for its store; the table's changelog restores them after a restart, and what Faust delivers again is skipped
by the offsets within the value.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

import faust
import msgspec
import structlog
from faust.types import TP
from faust.types.tables import TableT

from aggregator import metrics
from aggregator.domain.windows import (
    AlertRules,
    CampaignWindows,
    Counts,
    Fall,
    decode_windows,
    encode_windows,
    judged_minute,
)
from aggregator.live_gauges import Gauges
from aggregator.retry import tries
from schemas import campaign_activity, domain_events
from schemas.campaign_activity import BatchActivity
from schemas.domain_events import DomainEvent, DomainEventType
from schemas.topics import CAMPAIGN_WINDOWS_CHANGELOG
from sql.outbox import Publish

log = structlog.get_logger(__name__)

SOURCE = "/flightline/aggregator"

_PARTITION = 0
"""`campaign-activity` has one partition, and so has the changelog of what is made of it."""
_TAKE = 200
_WRITE_SECONDS = 60.0

_decode_activity = msgspec.json.Decoder(BatchActivity).decode


class LiveWindowSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`take_seconds`: how often windows are written to the changelog. `refresh_seconds`: how often gauges are
    set. `max_campaigns`: so many have gauges at most, those with the most impressions in the last hour."""

    rules: AlertRules = AlertRules()
    take_seconds: float = 1.0
    refresh_seconds: float = 5.0
    max_campaigns: int = 1_000


def add_live_windows(
    app: faust.App, settings: LiveWindowSettings, publish: Publish, clock_ms: Callable[[], int]
) -> None:
    """Registers the agent, its table and the refresh of its gauges on an app that has not started.

    `publish` sends the alerts; `clock_ms` (epoch ms) says what the last minute is for the gauges.
    """
    table = app.Table(
        "campaign-windows",
        key_type=bytes,
        value_type=bytes,
        partitions=1,
        changelog_topic=_changelog_topic(app),
    )
    windows = LiveWindows(_TableStore(table), settings.rules, publish)
    gauges = Gauges(settings.max_campaigns)
    topic = app.topic(campaign_activity.TOPIC, key_serializer="raw", value_serializer="raw")

    async def live_windows(stream: Any) -> None:
        async for events in stream.noack_take(_TAKE, within=settings.take_seconds):
            await windows.count((e.message.value, round(e.message.timestamp * 1000)) for e in events)
            for event in events:
                event.ack()

    async def refresh() -> None:
        owned = TP(campaign_activity.TOPIC, _PARTITION) in app.consumer.assignment()
        gauges.show(windows.campaigns() if owned else (), clock_ms())

    app.agent(topic, name="live-windows")(live_windows)
    app.timer(settings.refresh_seconds)(refresh)


class _TableStore:
    """A Faust table of which a write is known to be in the changelog when it returns.

    `table[key] = value` does not tell when that is: an offset committed before it would lose the count.
    """

    def __init__(self, table: TableT[bytes, bytes]) -> None:
        self._table = table

    def items(self) -> list[tuple[bytes, bytes]]:
        return list(self._table.data.items())

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._table.data.get(key)
        return value

    async def write(self, values: Mapping[bytes, bytes | None]) -> None:
        """Writes values, and removes where they are None; raises when it is not known that Kafka has them."""
        sent = [
            self._table.send_changelog(_PARTITION, key, value, value_serializer="raw")
            for key, value in values.items()
        ]
        async with asyncio.timeout(_WRITE_SECONDS):
            await asyncio.gather(*sent)
        for key, value in values.items():
            if value is None:
                self._table.data.pop(key, None)
            else:
                self._table.data[key] = value


class LiveWindows:
    """Counts runs of activity records into the stored windows, and tells of falls."""

    def __init__(self, store: _TableStore, rules: AlertRules, publish: Publish) -> None:
        self._store = store
        self._rules = rules
        self._publish = publish
        self._watermark = 0

    async def count(self, records: Iterable[tuple[bytes, int]]) -> None:
        """Counts (value, time of the record in epoch ms) in order; returns when all of it is durable.

        Alerts go out before the windows that remember them: a crash in between sends them again, with the
        same ids.
        """
        take = Take(self._store.get, self._all, self._rules, self._watermark)
        for value, published_at in records:
            try:
                batch = _decode_activity(value)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                metrics.activity_undecodable.inc()
                log.warning("live_windows.undecodable", error=str(error))
            else:
                take.add(batch, published_at)
        for alert in take.alerts:
            await self._send(alert)
        await self._store.write(take.changes())
        self._watermark = take.watermark

    def campaigns(self) -> Iterator[tuple[str, CampaignWindows]]:
        """All campaigns with their windows."""
        for key, value in self._store.items():
            windows = _decode(value)
            if windows is not None:
                yield key.decode(), windows

    def _all(self) -> list[str]:
        return [key.decode() for key, _ in self._store.items()]

    async def _send(self, alert: DomainEvent) -> None:
        async for number in tries():
            try:
                await self._publish(
                    domain_events.TOPIC,
                    key=alert.subject.encode(),
                    value=msgspec.json.encode(alert),
                    partition=None,
                )
            except Exception as error:  # noqa: BLE001  whatever Kafka's client raises: the alert is sent again
                log.warning("live_windows.alert_unsent", tries=number + 1, error=str(error))
            else:
                metrics.performance_alerts.labels(alert.data["metric"]).inc()
                log.info("live_windows.alert", campaign=alert.subject, **alert.data)
                return


class Take:
    """A run of records while it is counted: windows are decoded once, changed, and encoded once."""

    def __init__(
        self,
        stored: Callable[[bytes], bytes | None],
        stored_ids: Callable[[], Sequence[str]],
        rules: AlertRules,
        watermark: int,
    ) -> None:
        self.alerts: list[DomainEvent] = []
        self._stored = stored
        self._stored_ids = stored_ids
        self._rules = rules
        self._open: dict[str, CampaignWindows] = {}
        self._changed: set[str] = set()
        # After a restart: what was judged before must not be judged again by windows that have gone on.
        self.watermark = watermark or max((w.newest_at for _, w in self._all()), default=0)

    def add(self, batch: BatchActivity, published_at: int) -> None:
        """Counts one batch, and judges all campaigns when it is the first of a new minute."""
        # A stamp from the future, from a clock that is wrong, must not push all windows out of their rings.
        at = min(batch.at, published_at)
        for activity in batch.campaigns:
            if Counts() + activity == Counts():
                continue
            windows = self._windows(activity.campaign_id)
            if windows is None:
                windows = CampaignWindows(activity.organization_id, at)
                self._open[activity.campaign_id] = windows
            if windows.add(batch, activity, at):
                self._changed.add(activity.campaign_id)
        before, self.watermark = self.watermark, max(self.watermark, at)
        if judged_minute(self.watermark) > judged_minute(before):
            self._judge(judged_minute(self.watermark))

    def changes(self) -> dict[bytes, bytes | None]:
        """What is to be written, by campaign; None for windows that are over."""
        return {
            campaign_id.encode(): None if windows.is_stale(self.watermark) else encode_windows(windows)
            for campaign_id, windows in self._open.items()
            if campaign_id in self._changed
        }

    def _judge(self, minute: int) -> None:
        for campaign_id, windows in self._all():
            before = msgspec.to_builtins(windows.raised)
            falls = windows.judge(minute, self._rules)
            if windows.is_stale(self.watermark) or msgspec.to_builtins(windows.raised) != before:
                self._changed.add(campaign_id)
            self.alerts += [alert_of(campaign_id, windows.organization_id, fall) for fall in falls]

    def _all(self) -> Iterator[tuple[str, CampaignWindows]]:
        for campaign_id in {*self._stored_ids(), *self._open}:
            windows = self._windows(campaign_id)
            if windows is not None:
                yield campaign_id, windows

    def _windows(self, campaign_id: str) -> CampaignWindows | None:
        if campaign_id not in self._open:
            value = self._stored(campaign_id.encode())
            windows = _decode(value) if value is not None else None
            if windows is None:
                return None
            self._open[campaign_id] = windows
        return self._open[campaign_id]


def alert_of(campaign_id: str, organization_id: str, fall: Fall) -> DomainEvent:
    """The CloudEvent of a fall. Its id follows from campaign, metric and window: a second one is known as
    such."""
    return DomainEvent(
        id=str(uuid5(UUID(campaign_id), f"{fall.metric}/{fall.begin}/{fall.end}")),
        source=SOURCE,
        type=DomainEventType.PERFORMANCE_ALERT,
        subject=campaign_id,
        time=_rfc3339(fall.end),
        organization=organization_id,
        data={
            "metric": fall.metric,
            "window": {"from": _rfc3339(fall.begin), "to": _rfc3339(fall.end)},
            "current": round(fall.current, 4),
            "baseline": round(fall.baseline, 4),
        },
    )


def _changelog_topic(app: faust.App) -> Any:
    """Named by us, because topics are declared in one place; otherwise as Faust would make it."""
    return app.topic(
        CAMPAIGN_WINDOWS_CHANGELOG,
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
        partitions=1,
        compacting=True,
        acks=False,
        internal=True,
        maxsize=131_072,
        allow_empty=True,
    )


def _decode(value: bytes) -> CampaignWindows | None:
    try:
        return decode_windows(value)
    except msgspec.MsgspecError as error:
        # Of another version of this program: a campaign's windows begin anew, they fill within a day.
        log.warning("live_windows.unreadable_windows", error=str(error))
        return None


def _rfc3339(epoch_ms: int) -> str:
    return (
        datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
