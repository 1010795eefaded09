"""Rows 5 and 6: all on one machine. The rate it carries, how fresh its figures are, how soon it stops."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal

import aiohttp
import asyncpg
import clickhouse_connect
import msgspec
from clickhouse_connect.driver.asyncclient import AsyncClient

from compose.demo.control import ControlApi, pricing
from schemas.ids import new_id
from tests.bench.engines import Void, metric, until
from tests.bench.figures import Figure, Goal, Report, p99_of, share
from tests.bench.form import Form
from tests.bench.load import Answers, open_loop
from tests.bench.machine import Spent, memory_mb, spending
from tests.bench.traffic import Traffic
from tests.running import RunningStack, running_stack, scratch

_BATCH = 10
"""Events a request of the load: what an SDK has queued."""
_LOWEST, _HIGHEST, _STEP = 4_000, 64_000, 1_000
_LOOK_SECONDS = 15.0
_MOST_BEHIND_SECONDS = 2.0
_CARRIED = Goal(20_000)
_FRESH_MS = Goal(1_000, at_most=True)
_STOPPED_MS = Goal(500, at_most=True)
_QUERY_MS = Goal(50, at_most=True)
_MEMORY = {"ingest": Goal(150, at_most=True), "aggregator": Goal(500, at_most=True)}
_PROBE_SECONDS = 0.05
_POLL_SECONDS = 0.1
"""A look costs ClickHouse some 15 ms of a core: to look more often would be felt in what is looked for."""
_CLICK_SECONDS = 0.01
_GIVE_UP_SECONDS = 30.0
_EVENTS = "SELECT coalesce(sum(impressions + clicks + conversions), 0)::bigint FROM ledger.accounts"
_WAITING = """
    SELECT (SELECT count(*) FROM ledger.blocks WHERE stored_at IS NULL)
        + (SELECT count(*) FROM ledger.partitions WHERE blocked_offset < next_offset)
"""
_COPIES = """
    WITH made AS (
        INSERT INTO control.campaigns (id, organization_id, name, status, type, targeting_rules, start_date,
            end_date, currency, settings, created_by)
        SELECT gen_random_uuid(), organization_id, name || n, status, type, targeting_rules, start_date,
            end_date, currency, settings, created_by
        FROM control.campaigns, generate_series(1, $2::int) AS n WHERE id = $1::uuid
        RETURNING id, organization_id, currency
    ), opened AS (
        INSERT INTO ledger.accounts (campaign_id, organization_id, currency) SELECT * FROM made
    )
    SELECT id::text FROM made
"""


@dataclass(frozen=True)
class Seen:
    """Seconds from a beacon until it was in ClickHouse, until it was in metrics, and of each look."""

    stored: list[float]
    shown: list[float]
    asked: list[float]


@dataclass(frozen=True)
class Stops:
    """Of each campaign: seconds from the crossing click to the first `serve: false`; clicks beyond budget."""

    seconds: list[float]
    over: list[float]


@dataclass
class Offered:
    """A rate that was offered: `behind` has, over its time, by how many seconds billing was behind."""

    rate: float
    answers: Answers
    spent: Spent
    behind: list[float] = field(default_factory=list)
    stored_after: float = 0.0

    @property
    def was_carried(self) -> bool:
        """Answered within a second, and no more behind at its end than in its middle."""
        middle = self.behind[len(self.behind) // 2 :]
        grew = (sum(middle[-3:]) - sum(middle[:3])) / 3 if len(middle) >= 3 else 0.0
        return (
            not self.answers.refused
            and not self.answers.broken
            and self.answers.percentile_ms(0.99) < 1_000
            and self.stored_after < _MOST_BEHIND_SECONDS
            and grew < _MOST_BEHIND_SECONDS / 2
        )


class Chain:
    """A whole stack with many campaigns, and what its ledger and ClickHouse have of them."""

    def __init__(
        self, stack: RunningStack, api: ControlApi, rows: AsyncClient, ledger: asyncpg.Connection
    ) -> None:
        self.stack = stack
        self.api = api
        self.rows = rows
        self.campaigns: list[str] = []
        self.promised = 0
        host, port = stack.ready.ingest.removeprefix("http://").split(":")
        self._address = (host, int(port))
        self._ledger = ledger

    async def make_campaigns(self, count: int) -> None:
        """Running campaigns that the door knows."""
        first = await self.campaign("one of many", pricing("CPM", "2.50"))
        made = [row[0] for row in await self._ledger.fetch(_COPIES, first, count - 1)]
        # They are in no outbox: the read-back of a control API that starts finds and publishes them.
        os.kill(self.stack.ready.processes["control_api"][0], signal.SIGTERM)

        async def are_known() -> bool:
            return (
                await metric(self.stack.ready.ingest, 'flightline_ingest_known{table="campaign-state"}')
                >= count
            )

        await until(are_known, 300, every_s=0.5)
        self.campaigns = [first, *made]

    async def campaign(self, name: str, price: dict[str, object], budget: Decimal | None = None) -> str:
        made = await self.api.create(f"{name} {new_id()}", price, budget)
        await self.api.activate(made.id, startNow=True)
        return made.id

    async def offer(self, rate: float, seconds: float) -> Offered:
        """Offers events at a rate, in open loop, and waits until all that was promised is stored."""
        requests = Traffic(self.campaigns, self.stack.ready.write_key, batch=_BATCH)
        pids = {name: pids[0] for name, pids in self.stack.ready.processes.items() if pids}
        before, offering = await self._counted(), True
        behind: list[float] = []

        async def watch() -> None:
            started = time.perf_counter()
            while offering:
                await asyncio.sleep(1)
                counted = await self._counted() - before
                behind.append((time.perf_counter() - started) - counted / rate)

        watching = asyncio.create_task(watch())
        with spending(**pids) as spent:
            answers = await open_loop(
                self._address, requests, batch=_BATCH, rate=rate / _BATCH, seconds=seconds
            )
        offering, ended = False, time.perf_counter()
        self.promised += answers.events
        await watching
        await until(self._is_stored, 600, every_s=0.1)
        return Offered(rate, answers, spent, behind, time.perf_counter() - ended)

    async def send(
        self, http: aiohttp.ClientSession, campaign: str, event_type: str
    ) -> tuple[str, dict[str, object]]:
        """One event: its id, and what the door answered for it."""
        ready, event_id = self.stack.ready, new_id()
        body = msgspec.json.encode({"eventId": event_id, "campaignId": campaign, "type": event_type})
        headers = {"X-Write-Key": ready.write_key, "Content-Type": "application/json"}
        async with http.post(f"{ready.ingest}/v1/events", data=body, headers=headers) as answer:
            (result,) = msgspec.json.decode(await answer.read())["results"]
        self.promised += result["status"] in {"accepted", "unbilled"}
        return event_id, dict(result)

    async def require_counted(self) -> None:
        """Void when the ledger or ClickHouse has other events than were promised."""
        await until(self._is_stored, 600)
        billed = await self._ledger.fetchval("SELECT sum(billed)::bigint FROM ledger.accounts")
        found = (await self.rows.query("SELECT count(), sum(billed) FROM events")).result_rows[0]
        events = await self._counted()
        if (events, *map(int, found)) != (self.promised, self.promised, billed):
            raise Void(f"{self.promised:,} promised; {events:,} counted, {billed} billed; rows {found}")

    async def _counted(self) -> int:
        return int(await self._ledger.fetchval(_EVENTS))

    async def _is_stored(self) -> bool:
        return await self._counted() >= self.promised and not await self._ledger.fetchval(_WAITING)


async def rows(report: Report, form: Form) -> None:
    """The highest rate first; freshness, queries and stops at half of it, run by run."""
    async with chain() as whole:
        await whole.make_campaigns(form.campaigns)
        figures, rate = await _carried(form, whole)
        await whole.require_counted()
        report.add(*figures)
        seen = [await _freshness(form, whole, rate / 2) for _ in range(form.runs)]
        stops = [await _stops(form, whole, rate / 2) for _ in range(form.runs)]
        await whole.require_counted()
        report.add(*_figures_of_waits(seen, stops, f"at {rate / 2:,.0f} events/s"))


@asynccontextmanager
async def chain(*arguments: str) -> AsyncIterator[Chain]:
    """`flightline up`."""
    with scratch() as folder, running_stack(folder / "state", *arguments) as stack:
        ready = stack.ready
        ledger = await asyncpg.connect(ready.postgres)
        client = await clickhouse_connect.get_async_client(dsn=ready.clickhouse)
        async with ControlApi(ready.control_api, ready.admin_token) as api:
            try:
                yield Chain(stack, api, client, ledger)
            finally:
                ledger.terminate()
                await client.close()


async def _carried(form: Form, whole: Chain) -> tuple[list[Figure], float]:
    """The highest rate that is carried for a while, and then for as long as was asked."""
    await whole.offer(_LOWEST / 2, 5)  # whatever is slow only at first
    low, high = 0, _HIGHEST
    rate = _LOWEST
    while high - low > _STEP:
        if (await whole.offer(rate, _LOOK_SECONDS)).was_carried:
            low = rate
        else:
            high = rate
        rate = min(rate * 2, high) if high == _HIGHEST else (low + high) // 2 // _STEP * _STEP
        if rate in {low, high}:
            break
    while low > 0:
        found = await whole.offer(low, form.sustained_seconds)
        if found.was_carried:
            return _figures_of(form, whole, found), low
        low -= max(_STEP, low // 10 // _STEP * _STEP)
    raise RuntimeError(f"not even {_STEP} events/s are carried")


def _figures_of(form: Form, whole: Chain, found: Offered) -> list[Figure]:
    wall = found.spent.wall
    cores = {f"cores: {name}": [seconds / wall] for name, seconds in found.spent.cpu.items()}
    figures = [
        Figure(
            "5",
            f"whole chain, {len(whole.campaigns):,} campaigns, {_BATCH} events a request, "
            f"carried for {form.sustained_seconds:.0f} s",
            "events/s",
            [found.answers.events / wall],
            _CARRIED,
            notes=f"p99 of the answers {found.answers.percentile_ms(0.99):.0f} ms, of the client's lateness "
            f"{found.answers.late_ms:.1f} ms; stored {found.stored_after:.1f} s after the last answer",
            beside=cores,
        )
    ]
    processes = whole.stack.ready.processes
    figures += [
        Figure(
            "8", f"{name}, memory after that rate", "MB", [memory_mb(pid) for pid in processes[name]], goal
        )
        for name, goal in _MEMORY.items()
    ]
    return figures


def _figures_of_waits(seen: list[Seen], stops: list[Stops], what: str) -> list[Figure]:
    looked = f"looked at each {_POLL_SECONDS * 1e3:.0f} ms"
    clicked = f"a click each {_CLICK_SECONDS * 1e3:.0f} ms of 1.00 each"
    return [
        p99_of("5", f"beacon to ClickHouse, {what}", [run.stored for run in seen], _FRESH_MS, notes=looked),
        p99_of(
            "5",
            f"beacon to the metrics of the API, {what}",
            [run.shown for run in seen],
            _FRESH_MS,
            notes=looked,
        ),
        p99_of("7", f"GET /campaigns/…/metrics, {what}", [run.asked for run in seen], _QUERY_MS),
        p99_of("6", f"crossing click to `serve: false`, {what}", [run.seconds for run in stops], _STOPPED_MS),
        Figure(
            "6",
            f"overdelivery, {what}, {clicked}, the most of a run",
            "clicks beyond the budget",
            [max(run.over) for run in stops],
            notes="never billed",
            beside={"median:": [share(sorted(run.over), 0.5) for run in stops]},
        ),
    ]


async def _freshness(form: Form, whole: Chain, rate: float) -> Seen:
    """From a beacon being sent to its being visible, while the load goes on."""
    probe = await whole.campaign("freshness", pricing("CPM", "2.50"))
    sent: dict[str, float] = {}
    asked: list[float] = []

    async def stored() -> set[str]:
        found = await whole.rows.query(
            "SELECT event_id FROM events WHERE campaign_id = {id:UUID}", {"id": probe}
        )
        return {row[0] for row in found.result_rows}

    async def shown() -> set[str]:
        """The ledger has counts only; a campaign's events are billed nearly in the order of their sending."""
        began = time.perf_counter()
        count = (await whole.api.metrics(probe)).impressions
        asked.append(time.perf_counter() - began)
        return set(list(sent)[:count])

    load = asyncio.create_task(whole.offer(rate, form.probed_seconds + 5))
    await asyncio.sleep(2)
    sending = asyncio.create_task(_probe(whole, probe, sent, form.probed_seconds))
    taken = await asyncio.gather(_seen(stored, sent, sending), _seen(shown, sent, sending))
    if load.done():
        raise RuntimeError("the load ended before the probes")
    await load
    return Seen(*taken, asked)


async def _probe(whole: Chain, campaign: str, sent: dict[str, float], seconds: float) -> None:
    """Sends a beacon at each of its times, whether the one before was answered or not."""
    sending: set[asyncio.Task[None]] = set()
    async with aiohttp.ClientSession() as http:

        async def send(due: float) -> None:
            event_id, result = await whole.send(http, campaign, "IMPRESSION")
            if result["status"] == "accepted":
                sent[event_id] = due

        started = time.perf_counter()
        for number in range(int(seconds / _PROBE_SECONDS)):
            due = started + number * _PROBE_SECONDS
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            sending.add(asyncio.create_task(send(due)))
        await asyncio.gather(*sending)


async def _seen(
    there: Callable[[], Awaitable[set[str]]], sent: dict[str, float], sending: "asyncio.Task[None]"
) -> list[float]:
    """For each probe that was sent, after how many seconds it was there."""
    taken: dict[str, float] = {}
    deadline: float | None = None
    while not sending.done() or len(taken) < len(sent):
        visible, now = await there(), time.perf_counter()
        for event_id in visible & sent.keys() - taken.keys():
            taken[event_id] = now - sent[event_id]
        if sending.done():
            deadline = deadline or now + _GIVE_UP_SECONDS
            if now > deadline:
                raise Void(f"{len(sent) - len(taken)} probes were not seen within {_GIVE_UP_SECONDS:.0f} s")
        await asyncio.sleep(_POLL_SECONDS)
    return list(taken.values())


async def _stops(form: Form, whole: Chain, rate: float) -> Stops:
    """From the click that uses the budget up to the first answer that says `serve: false`."""
    load = asyncio.create_task(whole.offer(rate, form.stops * 1.0 + 10))
    await asyncio.sleep(2)
    taken, campaigns = [], []
    async with aiohttp.ClientSession() as http:
        for _ in range(form.stops):
            if load.done():
                break
            campaign = await whole.campaign("stop", pricing("CPC", "1"), Decimal(1))
            taken.append(await _stop(http, whole, campaign))
            campaigns.append(campaign)
    await load
    over = [float((await whole.api.metrics(campaign)).overdelivery_cost.amount) for campaign in campaigns]
    return Stops(taken, over)


async def _stop(http: aiohttp.ClientSession, whole: Chain, campaign: str) -> float:
    """The first click uses the budget up; others follow at a steady rate until one is told to stop."""
    crossing: float | None = None
    stopped: list[float] = []
    clicking: set[asyncio.Task[None]] = set()

    async def click(due: float) -> None:
        nonlocal crossing
        _, result = await whole.send(http, campaign, "CLICK")
        if result["status"] == "retry":
            return  # the door does not know the campaign yet
        crossing = due if crossing is None else min(crossing, due)
        if result.get("serve") is False:
            stopped.append(time.perf_counter())

    due = time.perf_counter()
    async with asyncio.timeout(_GIVE_UP_SECONDS):
        while not stopped:
            clicking.add(asyncio.create_task(click(due)))
            due += _CLICK_SECONDS
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await asyncio.gather(*clicking)
    assert crossing is not None
    return min(stopped) - crossing
