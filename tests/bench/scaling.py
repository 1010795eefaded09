"""Row 9: how figures grow with doors, aggregators, partitions and campaigns, as far as the cores can tell."""

import asyncio
from contextlib import AsyncExitStack

from tests.bench.engines import KEY, aggregator, door, engines
from tests.bench.figures import Figure, Report
from tests.bench.form import Form
from tests.bench.load import closed_loop
from tests.bench.machine import memory_mb, spending
from tests.bench.settling import fill_and_settle
from tests.bench.traffic import Traffic

_WORKERS = (1, 2, 4)
_PARTITIONS = (4, 12, 48)
_CAMPAIGNS = (100, 10_000, 100_000)
_CONNECTIONS = 256
_RECORD = 100
_WARM_UP_SECONDS = 2.0


async def rows(report: Report, form: Form) -> None:
    """One thing at a time; all else as in the rows before, but that nothing is pinned."""
    few, usual = _PARTITIONS[0], form.campaigns
    for workers in _WORKERS:
        await _doors(report, form, workers, few, usual)
    for partitions in _PARTITIONS[1:]:
        await _doors(report, form, 1, partitions, usual)
    for campaigns in _CAMPAIGNS:
        if campaigns != usual:
            await _doors(report, form, 1, few, campaigns)
    for workers in _WORKERS:
        await _aggregators(report, form, workers, max(few, workers), usual)
    for partitions in _PARTITIONS[1:]:
        await _aggregators(report, form, 1, partitions, usual)
    for campaigns in _CAMPAIGNS:
        if campaigns != usual:
            await _aggregators(report, form, 1, few, campaigns)


async def _doors(report: Report, form: Form, workers: int, partitions: int, campaigns: int) -> None:
    """Doors that share the machine with Kafka and the client; each has its share of the connections."""
    async with engines(campaigns, partitions) as world:
        promised = 0
        async with AsyncExitStack() as stack:
            doors = [await stack.enter_async_context(door(world)) for _ in range(workers)]

            async def load(seconds: float) -> int:
                answers = await asyncio.gather(
                    *(
                        closed_loop(
                            each.address,
                            Traffic(world.campaigns, KEY, batch=1),
                            batch=1,
                            connections=_CONNECTIONS // workers,
                            seconds=seconds,
                        )
                        for each in doors
                    )
                )
                for each in answers:
                    each.require_whole()
                return sum(each.events for each in answers)

            promised += await load(_WARM_UP_SECONDS)
            rates, per_cpu = [], []
            for _ in range(form.runs):
                with spending(**{f"door {n}": each.pid for n, each in enumerate(doors)}) as spent:
                    events = await load(form.seconds)
                promised += events
                rates.append(events / spent.wall)
                per_cpu.append(events / sum(spent.cpu[f"door {n}"] for n in range(workers)))
            memory = [memory_mb(each.pid) for each in doors]
        async with aggregator(world):
            await world.require_counted(promised)
    report.add(
        Figure(
            "9",
            f"doors: {workers}, {partitions} partitions, {campaigns:,} campaigns, one event a request",
            "requests/s",
            rates,
            beside={"a CPU-second of the doors:": per_cpu, "MB each:": memory},
        )
    )


async def _aggregators(report: Report, form: Form, workers: int, partitions: int, campaigns: int) -> None:
    async with engines(campaigns, partitions) as world:
        runs = [
            await fill_and_settle(world, form.backlog // 2, _RECORD, workers=workers)
            for _ in range(form.few_runs)
        ]
    report.add(
        Figure(
            "9",
            f"aggregators: {workers}, {partitions} partitions, {campaigns:,} campaigns",
            "events/s",
            [run.events / run.spent.wall for run in runs],
            beside={
                "a CPU-second of the aggregators:": [run.events / run.aggregators_cpu for run in runs],
                "MB each at most:": [run.memory_mb for run in runs],
            },
        )
    )
