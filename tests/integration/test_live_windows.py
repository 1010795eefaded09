"""The live windows agent in a Faust worker of its own, against a Kafka of its own.

Windows are about event time, and all activity in a topic shares one watermark: so these tests share no topic
with others, and each takes hours of the past day that are later than those of the test before it.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faust
import msgspec
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from faust.types import TP

from aggregator import sought_consumer
from aggregator.domain.windows import MINUTE_MS, AlertRules
from aggregator.health import HealthServer
from aggregator.live_windows import LiveWindowSettings, add_live_windows
from aggregator.sought_consumer import SoughtApp, SoughtConsumer
from compose.topics import ensure_topics
from schemas import campaign_activity, domain_events
from schemas.campaign_activity import Activity, BatchActivity
from schemas.domain_events import DomainEvent, DomainEventType
from schemas.ids import new_id
from sql.publisher import Publisher
from tests.running import RunningStack, free_port_base, running_stack, until

_WITHIN_S = 60
_HOUR_MS = 60 * MINUTE_MS
_PARTITIONS = 4
_SEEKS = "partitions are sought"
ROOT = Path(__file__).parents[2]


class WorkerSettings(msgspec.Struct, frozen=True):
    """What a worker's process is told, as JSON in its first argument."""

    kafka: str
    group: str
    metrics: str
    now: int
    datadir: str
    hangs: bool = False
    write_seconds: float = 0.2
    lingers: bool = False
    asks_early: bool = False


def never_sought() -> None:
    """From now on no seek comes to its end, as was seen after Kafka had been frozen."""

    async def hang(_: SoughtConsumer) -> Mapping[TP, int]:
        return await asyncio.Future()

    sought_consumer._SOUGHT_WITHIN_SECONDS = 2.0  # noqa: SLF001  two minutes are long for a test
    SoughtConsumer.seek_to_committed = hang  # type: ignore[method-assign]


def sought_slowly() -> None:
    """Partitions are let go of long after they were sought: a second and more, as long as a fetch waits."""
    seek = SoughtConsumer.seek_streams

    async def linger(consumer: SoughtConsumer) -> Mapping[TP, int]:
        offsets = await seek(consumer)
        await asyncio.sleep(1.5)
        return offsets

    SoughtConsumer.seek_streams = linger  # type: ignore[method-assign]


def asked_for_a_seek_early() -> None:
    """In each rebalance, while records stand still, as Faust's fetcher may. Seeks are told."""
    assigned, seek = SoughtConsumer.on_partitions_assigned, SoughtConsumer.seek_streams

    async def ask(consumer: SoughtConsumer, partitions: set[TP], generation_id: int = 0) -> None:
        await assigned(consumer, partitions, generation_id)
        if not consumer.flow_active:
            await consumer.perform_seek()

    async def tell(consumer: SoughtConsumer) -> Mapping[TP, int]:
        print(_SEEKS)  # noqa: T201
        return await seek(consumer)

    SoughtConsumer.on_partitions_assigned = ask  # type: ignore[method-assign]
    SoughtConsumer.seek_streams = tell  # type: ignore[method-assign]


def worker(settings: WorkerSettings) -> None:
    """A Faust app with the live windows and nothing else; its clock stands still."""
    if settings.hangs:
        never_sought()
    if settings.lingers:
        sought_slowly()
    if settings.asks_early:
        asked_for_a_seek_early()
    app = SoughtApp(
        settings.group,
        broker=f"kafka://{settings.kafka}",
        store="memory://",
        datadir=settings.datadir,
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        table_standby_replicas=0,
        consumer_auto_offset_reset="earliest",
        stream_buffer_maxsize=800,
        broker_session_timeout=6,
        broker_heartbeat_interval=1.5,
        broker_rebalance_timeout=10,
        broker_commit_interval=0.5,
        agent_supervisor="mode.CrashingSupervisor",
    )
    live = LiveWindowSettings(
        rules=AlertRules(window_minutes=15, minimum_impressions=100),
        take_seconds=0.2,
        write_seconds=settings.write_seconds,
        look_seconds=0.2,
    )
    publisher = Publisher(settings.kafka, client_id="live-windows")
    health = HealthServer(settings.metrics, lambda: True)
    add_live_windows(app, live, publisher.publish, lambda: settings.now)

    async def serve() -> None:
        await health.start()

    app.task(serve)
    faust.Worker(app, loglevel="info").execute_from_commandline()


class Worker:
    """A worker's process, seen through its metrics."""

    def __init__(self, process: "subprocess.Popen[bytes]", metrics: str) -> None:
        self.process = process
        self._metrics = metrics

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def gauges(self, campaign: str, window: str) -> dict[str, float]:
        """By the name of the gauge; empty when the campaign has none."""
        assert self.process.poll() is None, f"the worker ended with {self.process.returncode}"
        try:
            with urllib.request.urlopen(f"http://{self._metrics}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return {}
        labels = f'{{campaign="{campaign}",window="{window}"}}'
        return {
            line.partition("{")[0].removeprefix("flightline_campaign_"): float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if labels in line
        }


@contextmanager
def running_worker(settings: WorkerSettings) -> Iterator[Worker]:
    command = [sys.executable, __file__, msgspec.json.encode(settings).decode()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (Path(settings.datadir) / "worker.log").open("ab") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        yield Worker(process, settings.metrics)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@pytest.fixture(scope="module")
def own_kafka(engines: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    state = tmp_path_factory.mktemp("live-windows") / "state"
    others = {
        "FLIGHTLINE_POSTGRES": engines.ready.postgres,
        "FLIGHTLINE_CLICKHOUSE": engines.ready.clickhouse,
    }
    with running_stack(state, "--only-engines", env=others) as running:
        yield running.ready.kafka


class Feed:
    """Writes activity records whose time in the log is their event time."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._offsets = [0] * _PARTITIONS

    async def send(self, at: int, *campaigns: Activity, times: int = 1) -> None:
        """One batch; `times` as the outbox's relay may repeat it."""
        partition = at // MINUTE_MS % _PARTITIONS
        first = self._offsets[partition]
        self._offsets[partition] += 10
        batch = BatchActivity(int(time.time()), partition, first, self._offsets[partition], at, campaigns)
        for _ in range(times):
            await self._producer.send(
                campaign_activity.TOPIC, msgspec.json.encode(batch), partition=0, timestamp_ms=at
            )

    async def flush(self) -> None:
        await self._producer.flush()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def feed(own_kafka: str) -> AsyncIterator[Feed]:
    await ensure_topics(own_kafka)
    async with AIOKafkaProducer(bootstrap_servers=own_kafka) as producer:
        yield Feed(producer)


@pytest.fixture
def settings_of(own_kafka: str, tmp_path: Path) -> Callable[[int], WorkerSettings]:
    group = f"live-{new_id()}"
    metrics = f"127.0.0.1:{free_port_base()}"
    return lambda now: WorkerSettings(own_kafka, group, metrics, now, str(tmp_path))


def hours_ago(hours: int) -> int:
    return (time.time_ns() // 1_000_000 // _HOUR_MS - hours) * _HOUR_MS


async def alerts(kafka: str, campaign: str) -> list[DomainEvent]:
    """The campaign's events in `campaign-events` up to its end."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [
            TopicPartition(domain_events.TOPIC, partition)
            for partition in consumer.partitions_for_topic(domain_events.TOPIC) or ()
        ] or [TopicPartition(domain_events.TOPIC, partition) for partition in range(4)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[Any] = []
        for partition, end in ends.items():
            await consumer.seek_to_beginning(partition)
            while await consumer.position(partition) < end:
                for records in (await consumer.getmany(partition, timeout_ms=500)).values():
                    found += records
    finally:
        await consumer.stop()
    events = [msgspec.json.decode(record.value, type=DomainEvent) for record in found]
    return [event for event in events if event.subject == campaign]


async def test_gauges_are_exact_through_repeated_records_and_a_kill(
    feed: Feed, settings_of: Callable[[int], WorkerSettings]
) -> None:
    begin = hours_ago(20)
    now = begin + 59 * MINUTE_MS + 30_000
    one, other = new_id(), new_id()
    settings = settings_of(now)
    with running_worker(settings) as first:
        for minute in range(30):
            await feed.send(begin + minute * MINUTE_MS, Activity(one, "o", 100, 7, 3, 1_234), times=2)
        await feed.flush()
        until(lambda: first.gauges(one, "1h").get("impressions") == 3_000, _WITHIN_S, "half of it")
        for minute in range(30, 60):
            at = begin + minute * MINUTE_MS
            await feed.send(at, Activity(one, "o", 100, 7, 3, 1_234), Activity(other, "o", 5), times=3)
        await feed.flush()
        first.kill()
    with running_worker(settings) as second:
        until(lambda: second.gauges(one, "1h").get("impressions") == 6_000, _WITHIN_S, "all of it")
        assert second.gauges(one, "1h") == {
            "impressions": 6_000,
            "clicks": 420,
            "conversions": 180,
            "cost_micros": 74_040,
            "ctr_percent": 7,
        }
        assert second.gauges(one, "1m") == {
            "impressions": 100,
            "clicks": 7,
            "conversions": 3,
            "cost_micros": 1_234,
            "ctr_percent": 7,
        }
        assert second.gauges(other, "1h")["impressions"] == 150
    with running_worker(msgspec.structs.replace(settings, now=now + 31 * MINUTE_MS)) as third:
        until(lambda: third.gauges(one, "1h").get("impressions") == 2_900, _WITHIN_S, "the second half")
        assert third.gauges(one, "1m")["impressions"] == 0
    with running_worker(msgspec.structs.replace(settings, now=now + 2 * _HOUR_MS)) as fourth:
        last = new_id()
        await feed.send(now + 2 * _HOUR_MS, Activity(last, "o", 1))
        await feed.flush()
        until(lambda: fourth.gauges(last, "1h"), _WITHIN_S, "a newer campaign")
        assert fourth.gauges(one, "1h") == {}


async def test_a_fall_is_told_once_also_when_all_is_read_again(
    own_kafka: str, feed: Feed, settings_of: Callable[[int], WorkerSettings]
) -> None:
    begin = hours_ago(12)
    falling, steady, marker = new_id(), new_id(), new_id()
    for minute in range(100):
        clicks = 20 if minute < 60 else 1
        at = begin + minute * MINUTE_MS
        await feed.send(at, Activity(falling, "org", 200, clicks), Activity(steady, "org", 200, 20), times=2)
    now = begin + 101 * MINUTE_MS
    await feed.send(now, Activity(marker, "org", 1))
    await feed.flush()
    settings = settings_of(now)
    with running_worker(settings) as running:
        until(lambda: running.gauges(marker, "1h"), _WITHIN_S, "the end of the feed")
    later = now + 2 * MINUTE_MS
    with running_worker(msgspec.structs.replace(settings, group=f"live-{new_id()}", now=later)) as again:
        await feed.send(later, Activity(marker, "org", 1))
        await feed.flush()
        until(lambda: again.gauges(marker, "1h").get("impressions") == 2, _WITHIN_S, "the end, again")
        # Minutes 44 to 99: the hour ends with the marker's minute, 103.
        assert again.gauges(falling, "1h")["impressions"] == 200 * 56
    (alert,) = await alerts(own_kafka, falling)
    assert await alerts(own_kafka, steady) == []
    assert alert.type is DomainEventType.PERFORMANCE_ALERT
    assert alert.organization == "org"
    assert alert.data["metric"] == "ctr"
    assert alert.data["baseline"] == 10.0
    # Of 15 minutes (15 - n) at 10 % and n at 0.5 %: below 5 % with the 8th.
    assert alert.data["current"] == pytest.approx((7 * 20 + 8) / 30, abs=1e-4)


async def test_what_comes_while_a_partition_is_held_back_is_counted_when_it_is_let_go_of(
    feed: Feed, settings_of: Callable[[int], WorkerSettings]
) -> None:
    now = hours_ago(6)
    earlier, later = new_id(), new_id()
    settings = settings_of(now)
    await feed.send(now, Activity(earlier, "o", 1))
    await feed.flush()
    with running_worker(settings) as first:
        until(lambda: first.gauges(earlier, "1h"), _WITHIN_S, "the first record")
    await feed.send(now, Activity(later, "o", 1))
    await feed.flush()
    with running_worker(msgspec.structs.replace(settings, lingers=True)) as second:
        until(lambda: second.gauges(later, "1h"), _WITHIN_S, "the record that waited")


@pytest.mark.usefixtures("feed")
def test_a_worker_whose_partitions_are_never_sought_ends_to_be_started_again(
    settings_of: Callable[[int], WorkerSettings],
) -> None:
    settings = msgspec.structs.replace(settings_of(hours_ago(1)), hangs=True)
    with running_worker(settings) as stuck:
        assert stuck.process.wait(_WITHIN_S) != 0
    assert "NotSought" in (Path(settings.datadir) / "worker.log").read_text()


async def test_a_rebalance_does_not_wait_for_records_that_are_kept_for_a_minute(
    own_kafka: str, feed: Feed, settings_of: Callable[[int], WorkerSettings]
) -> None:
    begin = hours_ago(4)
    campaign = new_id()
    settings = msgspec.structs.replace(settings_of(begin + 30_000), write_seconds=3_600)
    with running_worker(settings) as first:
        workers = [first]
        sent = 0

        async def counts_all() -> None:
            nonlocal sent
            for _ in range(50):
                sent += 1
                await feed.send(begin, Activity(campaign, "o", 1))
            await feed.flush()
            await until_async(
                lambda: max(each.gauges(campaign, "1h").get("impressions", 0) for each in workers) == sent,
                "all is counted, by one of them",
            )

        await counts_all()
        with running_worker(
            msgspec.structs.replace(settings, metrics=f"127.0.0.1:{free_port_base()}")
        ) as second:
            workers.append(second)
            await are_stable(own_kafka, settings.group, 2)
            await counts_all()
            assert await members(own_kafka, settings.group) == ("Stable", 2)
        workers.remove(second)
        await counts_all()


async def test_partitions_are_sought_once_in_a_rebalance_whoever_asks(
    own_kafka: str, feed: Feed, settings_of: Callable[[int], WorkerSettings], tmp_path: Path
) -> None:
    begin, campaign = hours_ago(3), new_id()
    settings = msgspec.structs.replace(settings_of(begin + 30_000), asks_early=True)
    await feed.send(begin, Activity(campaign, "o", 7))
    await feed.flush()
    with running_worker(settings) as first:
        await until_async(lambda: first.gauges(campaign, "1h").get("impressions") == 7, "it is counted")
        with running_worker(msgspec.structs.replace(settings, metrics=f"127.0.0.1:{free_port_base()}")):
            await are_stable(own_kafka, settings.group, 2)
            seeks = tmp_path / "worker.log"
            await until_async(lambda: seeks.read_text().count(_SEEKS) >= 2, "both rebalances are over")
            await asyncio.sleep(1)
            assert seeks.read_text().count(_SEEKS) == 2


async def until_async(condition: Callable[[], object], what: str) -> None:
    await asyncio.to_thread(until, condition, _WITHIN_S, what)


async def are_stable(kafka: str, group: str, count: int) -> None:
    """Returns when a group has so many members and no rebalance."""
    async with asyncio.timeout(_WITHIN_S):
        while await members(kafka, group) != ("Stable", count):
            await asyncio.sleep(0.1)


async def members(kafka: str, group: str) -> tuple[str, int]:
    """The state of a consumer group, and how many are in it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        (answer,) = await admin.describe_consumer_groups([group])
        (described,) = answer.to_object()["groups"]
        return described["state"], len(described["members"])
    finally:
        await admin.close()


if __name__ == "__main__":
    arguments = msgspec.json.decode(sys.argv.pop(1), type=WorkerSettings)
    sys.argv.append("worker")
    worker(arguments)
