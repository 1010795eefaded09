"""Row 4: what an aggregator settles, from a log that is full to everything billed and stored."""

import asyncio
import random
import secrets
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import aiohttp
import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.events import RECORD_HEADERS, TrackingEvent, decode_events, encode_events
from schemas.ids import partition_of
from schemas.reasons import EventType
from schemas.topics import TRACKING_EVENTS
from tests.bench.engines import Engines, Service, aggregator, engines
from tests.bench.figures import Figure, Goal, Report
from tests.bench.form import Form
from tests.bench.machine import MEASURED_CORE, OTHER_CORES, Spent, memory_mb, pin, spending
from tests.bench.traffic import skewed

_RECORDS = (100, 12)
"""Events a record: of batches, or of a busy hour; of single events, as a door packs 25,000 a second."""
_DUPLICATES = 0.03
_LATE_BY = 50
"""Rounds of records after which a duplicate comes."""
_COST = 2_500
_WITHIN_SECONDS = 600.0
_GOAL = Goal(250_000)
_MEMORY = Goal(500, at_most=True)
_TYPES = (EventType.IMPRESSION,) * 18 + (EventType.CLICK, EventType.CONVERSION)
_USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0.0.0 Safari/537.36"
# Only of partitions and blocks: sums over all accounts, ten times a second, would be measured as well.
_DONE = """
    SELECT coalesce(sum(next_offset), 0)::bigint, coalesce(sum(next_offset - blocked_offset), 0)::bigint
        + (SELECT count(*) FROM ledger.blocks WHERE stored_at IS NULL)
    FROM ledger.partitions
"""


@dataclass
class Settled:
    """One run: events that were settled while it was measured."""

    events: float
    spent: Spent
    memory_mb: float

    @property
    def aggregators_cpu(self) -> float:
        """Seconds, of all aggregators."""
        return sum(seconds for name, seconds in self.spent.cpu.items() if name.startswith("aggregator"))


async def rows(report: Report, form: Form) -> None:
    """An aggregator that finds a log with `form.backlog` events, time after time."""
    for size in _RECORDS:
        async with engines(form.campaigns) as world:
            await fill_and_settle(world, form.backlog // 10, size)  # whatever is slow only at first
            runs, read = [], []
            for _ in range(form.runs):
                first = await _log_ends(world)
                runs.append(await fill_and_settle(world, form.backlog, size))
                read.append(await _only_read(world, first))
        what = (
            f"aggregator, {form.campaigns:,} campaigns (some much busier than others), "
            f"{_DUPLICATES:.0%} duplicates, {size} events a record"
        )
        beside = {
            f"µs of CPU an event: {name}": [run.spent.cpu[name] / run.events * 1e6 for run in runs]
            for name in world.names
        }
        report.add(
            Figure(
                "4",
                what,
                "events a CPU-second",
                [run.events / run.aggregators_cpu for run in runs],
                _GOAL if size == _RECORDS[0] else None,
                beside=beside,
            ),
            Figure(
                "4",
                f"{what}, beside who only reads and decodes them (aiokafka, msgspec)",
                "of that",
                [run.events / run.aggregators_cpu / rate for run, rate in zip(runs, read, strict=True)],
                beside={"only read, events a CPU-second:": read},
            ),
            Figure("4", what, "events/s", [run.events / run.spent.wall for run in runs]),
            Figure("8", f"{what}: most memory", "MB", [run.memory_mb for run in runs], _MEMORY),
        )


async def fill_and_settle(world: Engines, count: int, size: int, *, workers: int = 1) -> Settled:
    """Writes `count` new events to the log, some of them twice, and settles them. Void when it miscounts."""
    before = await world.counted()
    repeated = await _fill_log(world, count, size)
    settled = await _settle(world, count + repeated, workers)
    await world.require_counted(before.events + count)
    return settled


async def _fill_log(world: Engines, count: int, size: int) -> int:
    """Appends `count` events, and some of them again some records later; returns how many again."""
    dice = random.Random(1)  # noqa: S311  choices, not secrets
    campaigns = skewed(world.campaigns)
    run, repeated, chunk = secrets.token_hex(4), 0, world.partitions * size
    later: deque[list[TrackingEvent]] = deque([[] for _ in range(_LATE_BY)])
    async with AIOKafkaProducer(
        bootstrap_servers=world.kafka,
        acks="all",
        enable_idempotence=True,
        max_batch_size=900_000,
        max_request_size=8_000_000,
    ) as producer:
        for first in range(0, count + _LATE_BY * chunk, chunk):
            numbers = range(first, min(count, first + chunk))
            events = [_event(world, dice, next(campaigns), f"{run}-0000-7000-8000-{n:012x}") for n in numbers]
            later.append([event for event in events if dice.random() < _DUPLICATES])
            again = later.popleft()
            repeated += len(again)
            sent = [
                await producer.send(TRACKING_EVENTS, lines, partition=partition, headers=RECORD_HEADERS)
                for partition, lines in _records([*events, *again], world.partitions)
            ]
            await asyncio.gather(*sent)
    return repeated


def _event(world: Engines, dice: random.Random, campaign: str, event_id: str) -> TrackingEvent:
    now = world.now_ms()
    event_type = dice.choice(_TYPES)
    return TrackingEvent(
        event_id=event_id,
        organization_id=world.organization,
        campaign_id=campaign,
        type=event_type,
        received_at=now,
        occurred_at=now,
        currency="EUR",
        budget_version=1,
        cost=_COST if event_type is EventType.IMPRESSION else 0,
        visitor_id=f"v-{dice.randrange(1_000_000):06}",
        channel="WEB",
        variant="a",
        placement="sidebar",
        user_agent=_USER_AGENT,
    )


def _records(events: Sequence[TrackingEvent], partitions: int) -> Iterator[tuple[int, bytes]]:
    groups: dict[int, list[TrackingEvent]] = {}
    for event in events:
        partition = partition_of(event.organization_id, event.event_id, partitions)
        groups.setdefault(partition, []).append(event)
    for partition, group in groups.items():
        yield partition, encode_events(group)


async def _settle(world: Engines, events: int, workers: int) -> Settled:
    """Starts aggregators, and measures from when all are at work to their last block.

    What was billed before is left out, in proportion to its records. Merges of ClickHouse that come later are
    not measured.
    """
    end = await _log_end(world)
    ledger = await asyncpg.connect(world.postgres)

    async def done() -> tuple[int, int]:
        billed, waiting = await ledger.fetchrow(_DONE)
        return int(billed), int(waiting)

    before, _ = await done()
    async with AsyncExitStack() as stack:
        services = [await stack.enter_async_context(aggregator(world, number)) for number in range(workers)]
        if workers == 1:
            pin(services[0].pid, MEASURED_CORE)
            for name in world.names:
                pin(world.pid(name), OTHER_CORES)
        deadline = time.monotonic() + _WITHIN_SECONDS
        begun = before
        while begun == before or not await _all_at_work(services, world.partitions):
            await _pause(services, deadline, 0.02)
            begun, _ = await done()
        memory = 0.0
        pids = {f"aggregator {number}": service.pid for number, service in enumerate(services)}
        with spending(**pids, **{name: world.pid(name) for name in world.names}) as spent:
            while await done() != (end, 0):
                await _pause(services, deadline, 0.1)
                memory = max(memory, *(memory_mb(service.pid) for service in services))
    await ledger.close()
    return Settled(events * (end - begun) / (end - before), spent, memory)


async def _pause(services: Sequence[Service], deadline: float, seconds: float) -> None:
    for service in services:
        service.require_running()
    if time.monotonic() > deadline:
        raise RuntimeError(f"not settled within {_WITHIN_SECONDS:.0f} s")
    await asyncio.sleep(seconds)


async def _all_at_work(services: Sequence[Service], partitions: int) -> bool:
    if len(services) == 1:
        return True
    try:
        owned = [await service.metric("flightline_partitions_owned") for service in services]
    except aiohttp.ClientError:
        return False
    return sum(owned) == partitions and min(owned) > 0


async def _log_end(world: Engines) -> int:
    """The sum of the offsets at which the partitions end."""
    return sum((await _log_ends(world)).values())


async def _log_ends(world: Engines) -> dict[TopicPartition, int]:
    async with AIOKafkaConsumer(bootstrap_servers=world.kafka) as consumer:
        partitions = [TopicPartition(TRACKING_EVENTS, number) for number in range(world.partitions)]
        return dict(await consumer.end_offsets(partitions))


async def _only_read(world: Engines, first: dict[TopicPartition, int]) -> float:
    """Events a CPU-second of this process when it reads the log from there on and does nothing with them:
    what any consumer in Python pays before its first line."""
    left, events = await _log_end(world) - sum(first.values()), 0
    async with AIOKafkaConsumer(
        bootstrap_servers=world.kafka, max_partition_fetch_bytes=4 * 1024 * 1024
    ) as consumer:
        consumer.assign(list(first))
        for partition, offset in first.items():
            consumer.seek(partition, offset)
        started = time.process_time()
        while left:
            for records in (await consumer.getmany(timeout_ms=1_000)).values():
                left -= len(records)
                events += sum(len(decode_events(record.value)) for record in records)
    return events / (time.process_time() - started)
