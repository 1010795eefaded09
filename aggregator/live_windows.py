"""Live windows: a Faust agent that counts `campaign-activity` per campaign, for Prometheus and for alerts.

No decision about money depends on it. The windows of a campaign are one value of a Faust table with memory
for its store; the table's changelog restores them after a restart, and what Faust delivers again is skipped
by the offsets within the value. A record is acknowledged once the windows that count it are in the changelog.
"""

import asyncio
import heapq
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import faust
import msgspec
import structlog
from faust.exceptions import ConsumerNotStarted
from faust.types import TP
from faust.types.tables import TableT
from prometheus_client import REGISTRY

from aggregator import metrics
from aggregator.domain.windows import AlertRules, CampaignWindows
from aggregator.live_gauges import Campaigns, LiveGauges
from aggregator.live_take import Change, Standing, Take, decoded
from aggregator.retry import tries
from aggregator.sought_consumer import SoughtApp
from schemas import campaign_activity, domain_events
from schemas.campaign_activity import BatchActivity
from schemas.domain_events import DomainEvent
from schemas.topics import CAMPAIGN_WINDOWS_CHANGELOG
from sql.outbox import Publish

log = structlog.get_logger(__name__)

_PARTITION = 0
"""`campaign-activity` has one partition, and so has the changelog of what is made of it."""
_TAKE = 200
_AT_ONCE = 100
"""Campaigns that are looked at; in between, billing goes on."""
_WRITE_TIMEOUT_SECONDS = 60.0

_decode_activity = msgspec.json.Decoder(BatchActivity).decode


class LiveWindowSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`take_seconds`: how soon activity is counted. `write_seconds`: how often windows are written to the
    changelog, beside each minute that is over; `look_seconds`: how often it is seen whether that is due.
    `max_campaigns`: so many have gauges at most, those with the most impressions in the last hour."""

    rules: AlertRules = AlertRules()
    take_seconds: float = 1.0
    write_seconds: float = 60.0
    look_seconds: float = 5.0
    max_campaigns: int = 1_000


def add_live_windows(
    app: SoughtApp, settings: LiveWindowSettings, publish: Publish, clock_ms: Callable[[], int]
) -> None:
    """Registers the agent and its table on an app that has not started, and their gauges.

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
    topic = app.topic(campaign_activity.TOPIC, key_serializer="raw", value_serializer="raw")

    async def live_windows(stream: Any) -> None:
        async for events in stream.noack_take(_TAKE, within=settings.take_seconds):
            for event in events:
                message = event.message
                if message.generation_id != app.consumer_generation_id:
                    continue  # it will be delivered again
                await windows.count(message.value, round(message.timestamp * 1000), event.ack)
                event.value = message.value = (
                    None  # a minute of them, only to acknowledge them, would be much
                )
            await windows.write_after(settings.write_seconds)

    async def write() -> None:
        await windows.write_after(settings.write_seconds)

    def most_active() -> Campaigns:
        return windows.most_active(settings.max_campaigns) if _is_owner(app) else ()

    app.agent(topic, name="live-windows")(live_windows)
    app.timer(settings.look_seconds)(write)
    app.listen(windows)
    REGISTRY.register(LiveGauges(most_active, clock_ms, settings.max_campaigns))


def _is_owner(app: SoughtApp) -> bool:
    """Whether this process counts the live windows; not before the consumer has started."""
    try:
        return TP(campaign_activity.TOPIC, _PARTITION) in app.consumer.assignment()
    except ConsumerNotStarted:
        return False


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
        async with asyncio.timeout(_WRITE_TIMEOUT_SECONDS):
            await asyncio.gather(*sent)
        for key, value in values.items():
            if value is None:
                self._table.data.pop(key, None)
            else:
                self._table.data[key] = value


class LiveWindows:
    """Counts activity records, writes them into the stored windows, and tells of falls."""

    def __init__(self, store: _TableStore, rules: AlertRules, publish: Publish) -> None:
        self._store = store
        self._rules = rules
        self._publish = publish
        self._counting = asyncio.Lock()
        self._take: Take | None = None
        self._began = 0.0
        self._unacknowledged: list[Callable[[], object]] = []
        self._is_revoked = False
        self._assignment = 0
        self._hours: dict[str, int] = {}
        """Impressions of each campaign in the hour before its windows were written."""

    async def count(self, value: bytes, published_at: int, ack: Callable[[], object]) -> None:
        """Counts a record, written to the log at `published_at` (epoch ms); `ack` is called when its windows
        are durable."""
        async with self._counting:
            take = await self._present()
            if take is None:
                return  # it will be delivered again
            try:
                batch = _decode_activity(value)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                metrics.activity_undecodable.inc()
                log.warning("live_windows.undecodable", error=str(error))
            else:
                take.add(batch, published_at)
            self._unacknowledged.append(ack)
            if take.ends:
                await self._write(take)

    async def write_after(self, seconds: float) -> None:
        """Writes what was counted, if the first of it was so long ago."""
        async with self._counting:
            if self._take is not None and self._unacknowledged and time.monotonic() - self._began >= seconds:
                await self._write(self._take)

    @property
    def topic(self) -> str:
        return campaign_activity.TOPIC

    def revoked(self) -> None:
        """Drops what is not written: whoever owns the partition next is given it again."""
        self._is_revoked = True
        self._drop()

    def assigned(self) -> None:
        """Counts again, from what the table has now."""
        self._drop()
        self._is_revoked = False

    def _drop(self) -> None:
        self._assignment += 1
        self._take = None
        self._unacknowledged.clear()
        self._hours.clear()

    def most_active(self, most: int) -> Iterator[tuple[str, CampaignWindows]]:
        """The campaigns with the most impressions in the last hour, with their windows."""
        take = self._take
        if take is None:  # nothing has come since the start
            for key, value in self._store.items():
                windows = decoded(value)
                if windows is not None:
                    yield key.decode(), windows
            return
        found = dict(self._hours)
        for campaign_id, fresh in take.fresh.items():
            found[campaign_id] = found.get(campaign_id, 0) + fresh.impressions
        for campaign_id in heapq.nlargest(most, found, key=found.__getitem__):
            windows = take.windows(campaign_id)
            if windows is not None:
                yield campaign_id, windows

    async def _present(self) -> Take | None:
        """What is being collected; None while the partition is revoked. Before the first one, all that is
        stored is looked at."""
        if self._is_revoked or self._take is not None:
            return self._take
        assignment, standing = self._assignment, Standing()
        for number, (key, value) in enumerate(self._store.items()):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
            windows = decoded(value)
            if windows is not None:
                standing.include(windows)
                self._hours[key.decode()] = windows.last_hour(windows.newest_at).impressions
        return self._begin(standing) if assignment == self._assignment else None

    def _begin(self, standing: Standing) -> Take:
        self._take = Take(self._store.get, self._ids, self._rules, standing)
        self._began = time.monotonic()
        return self._take

    async def _write(self, take: Take) -> None:
        """Writes a take some campaigns at a time, acknowledges its records, and begins the next one.

        Alerts go out before the windows that remember them: a crash in between sends them again, with the
        same ids.
        """
        waiting: list[Change] = []
        for number, change in enumerate(take.changes(), start=1):
            if change is not None:
                waiting.append(change)
                if change.value is None:
                    self._hours.pop(change.campaign_id, None)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
                await self._write_some(take, waiting)
                waiting.clear()
                if self._take is not take:
                    return  # revoked in the meantime
        await self._write_some(take, waiting)
        if self._take is not take:
            return
        for ack in self._unacknowledged:
            ack()
        self._unacknowledged.clear()
        self._hours |= take.hours
        self._begin(take.standing)

    async def _write_some(self, take: Take, changes: Sequence[Change]) -> None:
        for change in changes:
            for alert in change.alerts:
                await self._send(alert, take)
        # Looked at last: behind another owner's values, these would be the ones that stay.
        if changes and self._take is take:
            await self._store.write({change.campaign_id.encode(): change.value for change in changes})

    def _ids(self) -> list[str]:
        return [key.decode() for key, _ in self._store.items()]

    async def _send(self, alert: DomainEvent, take: Take) -> None:
        async for number in tries():
            if self._take is not take:
                return  # another owner tells it
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
