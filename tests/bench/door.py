"""Rows 1 to 3: what a door takes, on one core, with every answer a promise that Kafka has confirmed."""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.bench.engines import KEY, Engines, Service, aggregator, door, engines
from tests.bench.figures import Figure, Goal, Report
from tests.bench.form import Form
from tests.bench.load import Answers, closed_loop, open_loop
from tests.bench.machine import MEASURED_CORE, OTHER_CORES, Spent, beside, memory_mb, pin, spending
from tests.bench.nginx import MISSING, Nginx, nginx
from tests.bench.traffic import EVENT_BYTES, Traffic

_SHAPES = ((1, 64), (1, 512), (100, 16), (100, 64))
"""Events a request, connections."""
_GOALS = {1: Goal(25_000), 100: Goal(250_000)}
"""By events a request."""
_SHARE_OF_NGINX = Goal(0.33)
_P99_MS = Goal(10, at_most=True)
_MEMORY = Goal(150, at_most=True)
_WARM_UP_SECONDS = 2.0


@dataclass
class Run:
    """One run against a door."""

    answers: Answers
    spent: Spent

    @property
    def per_second(self) -> float:
        return self.answers.requests / self.spent.wall

    @property
    def per_cpu_second(self) -> float:
        return self.answers.requests / self.spent.cpu["door"]

    @property
    def busy(self) -> float:
        """The share of the wall for which the door was at work: well below 1, the client was what is slow."""
        return self.spent.cpu["door"] / self.spent.wall


async def rows(report: Report, form: Form) -> None:
    """Door alone, latency at half capacity; and at the end what was promised is counted."""
    figures: list[Figure] = []
    async with engines(form.campaigns) as world:
        for name in world.names:
            pin(world.pid(name), OTHER_CORES)
        promised = 0
        async with door(world) as service:
            pin(service.pid, MEASURED_CORE)
            with nginx(world.folder / "nginx") as reference:
                if reference is not None:
                    pin(reference.pid, MEASURED_CORE)
                with beside():
                    events, capacity = await _throughput(figures, form, world, service, reference)
            with beside():
                promised = events + await _latency(figures, form, world, service, capacity / 2)
            memory = memory_mb(service.pid)
            await _require_confirmed(service)
        async with aggregator(world):
            await world.require_counted(promised)
    report.add(*figures, Figure("8", "door, memory after these rows", "MB", [memory], _MEMORY))


async def _require_confirmed(service: Service) -> None:
    """RuntimeError when the spool has promised anything: that is not the way that is measured."""
    spooled = await service.metric("flightline_ingest_spooled_events_total")
    if spooled:
        raise RuntimeError(f"{spooled:.0f} events were promised by the spool, not by Kafka")


async def _throughput(
    figures: list[Figure], form: Form, world: Engines, service: Service, reference: Nginx | None
) -> tuple[int, float]:
    """Each shape in turn, `form.runs` times, the reference after each: what disturbs one disturbs both.

    Returns the events promised, and the median of requests a second of one event at 512 connections.
    """
    promised, capacity = 0, 0.0
    for batch, connections in _SHAPES:
        requests = Traffic(world.campaigns, KEY, batch=batch)
        promised += (await _run(service, requests, batch, connections, _WARM_UP_SECONDS)).answers.events
        runs, beside_it = [], []
        for _ in range(form.runs):
            runs.append(await _run(service, requests, batch, connections, form.seconds))
            promised += runs[-1].answers.events
            if reference is not None:
                beside_it.append(reference.per_cpu_second(connections, form.seconds, batch * EVENT_BYTES))
        found = _figures_of(batch, connections, runs, beside_it)
        figures += found
        if (batch, connections) == (1, 512):
            capacity = found[0].median or 0.0
    return promised, capacity


def _figures_of(batch: int, connections: int, runs: list[Run], nginx_rates: list[float]) -> list[Figure]:
    row, unit = ("1", "requests") if batch == 1 else ("2", "events")
    what = f"door, {batch} event{'s' * (batch > 1)} a request, {connections} connections"
    latencies = {
        f"{name} of the answer, ms:": [run.answers.percentile_ms(part) for run in runs]
        for name, part in (("p50", 0.5), ("p99", 0.99))
    }
    shares = {
        "share of its core:": [run.busy for run in runs],
        "the client's:": [run.spent.cpu["client"] / run.spent.wall for run in runs],
    }
    found = [
        Figure(row, what, f"{unit}/s", [run.per_second * batch for run in runs], beside=latencies),
        Figure(
            row,
            what,
            f"{unit} a CPU-second",
            [run.per_cpu_second * batch for run in runs],
            _GOALS[batch],
            beside=shares,
        ),
    ]
    ratios = [run.per_cpu_second / rate for run, rate in zip(runs, nginx_rates, strict=False)]
    found.append(
        Figure(
            row,
            f"{what}, a CPU-second beside nginx",
            "of nginx",
            ratios,
            _SHARE_OF_NGINX if batch == 1 else None,
            notes="" if nginx_rates else MISSING,
            beside={"nginx `return 204` to as many bytes, requests a CPU-second:": nginx_rates},
        )
    )
    return found


async def _run(
    service: Service, requests: Iterator[bytes], batch: int, connections: int, seconds: float
) -> Run:
    with spending(door=service.pid) as spent:
        answers = await closed_loop(
            service.address, requests, batch=batch, connections=connections, seconds=seconds
        )
    answers.require_whole()
    return Run(answers, spent)


async def _latency(figures: list[Figure], form: Form, world: Engines, service: Service, rate: float) -> int:
    """Open loop, at half of the rate that 512 connections reached."""
    requests = Traffic(world.campaigns, KEY, batch=1)
    found = []
    for _ in range(form.runs):
        answers = await open_loop(service.address, requests, batch=1, rate=rate, seconds=form.seconds)
        answers.require_whole()
        found.append(answers)
    late = {"p99 of the client's own lateness, ms:": [answers.late_ms for answers in found]}
    what = f"answer to one event, open loop at {rate:,.0f} requests/s"
    figures += [
        Figure("3", f"{what}, {name}", "ms", [a.percentile_ms(part) for a in found], goal, beside=late)
        for name, part, goal in (("p50", 0.5, None), ("p99", 0.99, _P99_MS), ("p99.9", 0.999, None))
    ]
    return sum(answers.events for answers in found)
