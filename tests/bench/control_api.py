"""Row 10: what consoles and services wait for at the control API. `python -m tests.bench.control_api` is this
row alone, in any size.

10,000 running campaigns of 50 organizations (five of them have a thousand each), events stored, a door and
an aggregator at work; 1,000 users, a connection each. Requests are sent at a rate, whatever is answered: 70 %
read, 20 % track, 10 % write. The rate rises until the machine does not keep up, and falls until it keeps up
for longer; that one is measured, and some slower ones until every kind is answered within its goal: at the
first a queue comes and goes, which all wait in, and the second is the rate to plan with.
"""

import argparse
import asyncio
import time
from array import array
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import asyncpg
import msgspec
import uvloop

from schemas.ids import new_id
from tests.bench.control_world import Organization, World, dice, world
from tests.bench.engines import Void
from tests.bench.figures import Figure, Goal, Report, p99_of, share
from tests.bench.form import Form
from tests.bench.load import left_of
from tests.bench.machine import Spent, spending
from tests.integration.control import body

USERS, ORGANIZATIONS, MOST_EVENTS, PROCESSES = 1_000, 50, 10_000_000, 1
MIX = {
    "get": 38,
    "metrics": 22,
    "list of 50": 9,
    "list of 1,000": 1,
    "track": 20,
    "create": 4,
    "update": 6,
}
"""Percent."""
GOALS_MS = {
    "get": 25,
    "metrics": 40,
    "list of 50": 50,
    "list of 1,000": 50,
    "track": 12,
    "create": 125,
    "update": 75,
}
_EXPECTED = {"create": b"201", "track": b"202"}
_OK = b"200"
_BUSY = "503"
"""It does not keep up, and says so."""
_FIRST_RATE, _FASTER, _LEAST_RATE = 100.0, 1.15, 5.0
_SLOWER, _SLOWER_RATES = 0.7, 4
_MOST_WAITING_SECONDS = 0.1
"""What waits for an answer when the last request is sent, in seconds of the rate: by Little's law the time
that requests take then. With more there is a queue, and the machine does not keep up."""
_PLANNED, _SLOWEST = (
    "the highest rate within all goals",
    "the slowest rate that was tried: not within all goals",
)
_FEW = 5
_UPDATED = 400
_TICK_SECONDS = 0.001
_DRAIN_SECONDS = 60.0


class Asked(NamedTuple):
    """A request, what kind it is, and what its answer frees."""

    kind: str
    request: bytes
    campaign: "Updated | None" = None


@dataclass
class Updated:
    """A campaign that is changed, by one user at a time."""

    id: str
    token: str
    version: int = 1


@dataclass
class Run:
    """What came back at one rate. `seconds` by kind, each from when its request was to be sent."""

    rate: float
    offered: int = 0
    waiting: int = 0
    """Requests without an answer when the last was sent."""
    seconds: dict[str, "array[float]"] = field(default_factory=lambda: defaultdict(lambda: array("d")))
    unexpected: Counter[str] = field(default_factory=Counter)
    spent: Spent = field(default_factory=Spent)
    late: "array[float]" = field(default_factory=lambda: array("d"))

    @property
    def answered(self) -> int:
        return sum(map(len, self.seconds.values()))

    @property
    def is_within_goals(self) -> bool:
        return self.keeps_up and all(
            share(sorted(taken), 0.99) * 1e3 <= GOALS_MS[kind] for kind, taken in self.seconds.items()
        )

    @property
    def keeps_up(self) -> bool:
        return self.waiting <= max(_FEW, self.rate * _MOST_WAITING_SECONDS) and not self.unexpected


class Mix:
    """Makes requests as users do."""

    def __init__(self, made: World) -> None:
        self._dice = dice()
        self._world = made
        self._kinds, self._weights = list(MIX), list(MIX.values())
        self.tracked = 0
        """Events that were promised."""
        chosen = [(one, each) for one in made.organizations for each in one.campaigns]
        self._free = deque(
            Updated(campaign, one.tokens[0])
            for one, campaign in self._dice.sample(chosen, min(_UPDATED, len(chosen)))
        )

    def next(self) -> Asked:
        kind = self._dice.choices(self._kinds, self._weights)[0]
        if kind == "update" and self._free:
            return self._update(self._free.popleft())
        large = kind == "list of 1,000"
        one = self._dice.choice(self._world.large if large else self._world.organizations)
        return Asked(kind, self._request(kind, one))

    def answered(self, asked: Asked, answer: bytes) -> None:
        """Frees the campaign that was changed, and counts what was promised."""
        self.tracked += asked.kind == "track" and answer[9:12] == _EXPECTED["track"]
        if asked.campaign is not None:
            asked.campaign.version += answer.startswith(b"HTTP/1.1 200")
            self._free.append(asked.campaign)

    def _request(self, kind: str, one: Organization) -> bytes:
        token = self._dice.choice(one.tokens)
        path = f"/campaigns/{self._dice.choice(one.campaigns)}"
        if kind == "metrics":
            return _http("GET", f"{path}/metrics", token)
        if kind == "list of 50":
            return _http("GET", "/campaigns?include=metrics", token)
        if kind == "list of 1,000":
            return _http("GET", "/campaigns?limit=1000", token)
        if kind == "track":
            event = {"type": "IMPRESSION", "eventId": new_id(), "visitorId": "v-81", "channel": "WEB"}
            return _http("POST", f"{path}/track", token, event)
        if kind == "create":
            return _http("POST", "/campaigns", token, body())
        return _http("GET", path, token)

    def _update(self, one: Updated) -> Asked:
        template = self._world.template
        content = template | {"name": f"{template['name']} {one.id}", "description": f"of {one.version}"}
        request = _http("PUT", f"/campaigns/{one.id}", one.token, content, f'If-Match: "{one.version}"\r\n')
        return Asked("update", request, one)


def _http(method: str, path: str, token: str, content: Any = None, more: str = "") -> bytes:
    sent = b"" if content is None else msgspec.json.encode(content)
    if sent:
        more += f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n"
    head = f"{method} /api/v1{path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n{more}\r\n"
    return head.encode() + sent


class User(asyncio.Protocol):
    """A connection, one request at a time."""

    def __init__(self, on_answer: Callable[["User", Asked, float, bytes], None]) -> None:
        self._on_answer = on_answer
        self._received: list[bytes] = []
        self._left = 0
        """Bytes of the answer that have not come, as far as is known."""
        self._asked: Asked | None = None
        self._due = 0.0
        self.is_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def send(self, asked: Asked, due: float) -> None:
        """`due`: the moment (perf_counter) from which on the answer is waited for."""
        self._asked, self._due = asked, due
        self.transport.write(asked.request)

    def data_received(self, data: bytes) -> None:
        self._received.append(data)
        self._left -= len(data)
        if self._asked is None or self._left > 0:
            return
        answer, asked = b"".join(self._received), self._asked
        self._left = left_of(answer)
        if self._left > 0:
            self._received = [answer]
        else:
            self._received, self._asked = [], None
            self._on_answer(self, asked, time.perf_counter() - self._due, answer)

    def connection_lost(self, _: Exception | None) -> None:
        self.is_closed = True
        if self._asked is not None:
            self._on_answer(self, self._asked, 0.0, b"")


class Users:
    """So many connections; one that the server has ended, because it was idle for long, is made anew."""

    def __init__(self, url: str, on_answer: Callable[[Asked, float, bytes], None]) -> None:
        self._address = urlsplit(url)
        self._on_answer = on_answer
        self._free = deque[User]()
        self._opened = list[User]()

    def __len__(self) -> int:
        """Those that wait for no answer."""
        return len(self._free)

    async def open(self, users: int) -> None:
        """Connects so many."""
        for _ in range(users):
            self._free.append(await self._connected())

    async def next(self) -> User:
        """One that waits for no answer. IndexError when there is none."""
        user = self._free.popleft()
        return await self._connected() if user.is_closed else user

    def close(self) -> None:
        """Ends all connections."""
        for user in self._opened:
            user.transport.close()

    async def _connected(self) -> User:
        loop, (host, port) = asyncio.get_running_loop(), (self._address.hostname, self._address.port)
        _, user = await loop.create_connection(lambda: User(self._answered), host, port)
        self._opened.append(user)
        return user

    def _answered(self, user: User, asked: Asked, taken: float, answer: bytes) -> None:
        self._on_answer(asked, taken, answer)
        self._free.append(user)


async def at_rate(made: World, mix: Mix, rate: float, seconds: float, users: int) -> Run:
    """Sends at this rate for so long, and waits for all answers."""
    run = Run(rate)

    def answered(asked: Asked, taken: float, answer: bytes) -> None:
        run.seconds[asked.kind].append(taken)
        status = answer[9:12]
        if status != _EXPECTED.get(asked.kind, _OK):
            run.unexpected[f"{asked.kind} {status.decode() or 'lost'}"] += 1
        mix.answered(asked, answer)

    connections = Users(made.api.url, answered)
    await connections.open(users)
    started, total = time.perf_counter(), int(rate * seconds)
    with spending(**made.pids) as run.spent:
        while run.offered < total and time.perf_counter() - started < 2 * seconds:
            now = time.perf_counter()
            while run.offered < min(total, (now - started) * rate) and connections:
                moment = started + run.offered / rate
                run.late.append(now - moment)
                (await connections.next()).send(mix.next(), moment)
                run.offered += 1
            await asyncio.sleep(_TICK_SECONDS)
    run.waiting = total - run.answered
    async with asyncio.timeout(_DRAIN_SECONDS):
        while run.answered < run.offered:
            await asyncio.sleep(_TICK_SECONDS)
    connections.close()
    return run


async def highest(made: World, mix: Mix, first: float, seconds: float, users: int) -> float:
    """The highest rate at which the machine keeps up."""

    async def keeps_up(rate: float) -> bool:
        run = await at_rate(made, mix, rate, seconds, users)
        shown = f"{run.waiting} of {run.offered} wait, late {share(sorted(run.late), 0.99):.3f} s"
        print(f"{rate:.0f}/s: {shown} {dict(run.unexpected) or ''}", flush=True)  # noqa: T201  its progress
        return run.keeps_up

    rate = first
    while rate > _LEAST_RATE and not await keeps_up(rate):
        rate /= 2
    while await keeps_up(rate * _FASTER):
        rate *= _FASTER
    return rate


async def kept_up(at: Callable[[float], Awaitable[Run]], rate: float) -> Run:
    """The fastest run that keeps up, from `rate` downwards: what is kept up with for seconds may be too much
    for a minute. Void when there is none."""
    while rate > _LEAST_RATE:
        run = await at(rate)
        if run.keeps_up:
            return run
        rate /= _FASTER
    raise Void(f"not even {_LEAST_RATE:.0f} requests/s are kept up with")


async def slower(at: Callable[[float], Awaitable[Run]], most: Run) -> Run:
    """The fastest run within all goals, from `most` downwards; the slowest one tried when there is none."""
    run = most
    for _ in range(_SLOWER_RATES):
        if run.is_within_goals:
            break
        run = await at(run.rate * _SLOWER)
    return run


def report_of(run: Run, rate: str, notes: str) -> list[Figure]:
    """The p99 of each kind beside what is wanted; `rate` says what that of the run is."""
    late = f"p99 of the client's lateness {share(sorted(run.late), 0.99) * 1e3:.1f} ms; {notes}"
    cores = {f"cores: {name}": [seconds / run.spent.wall] for name, seconds in run.spent.cpu.items()}
    figures = [Figure("10", f"control API, {rate}", "requests/s", [run.rate], notes=late, beside=cores)]
    for kind in MIX:
        if taken := run.seconds[kind]:
            what = f"control API, {kind}, open loop at {run.rate:,.0f} requests/s"
            figures.append(p99_of("10", what, [taken], Goal(GOALS_MS[kind], at_most=True)))
    return figures


async def measure(
    report: Report,
    *,
    campaigns: int,
    organizations: int,
    events: int,
    processes: int,
    users: int,
    rate: float,
    step_seconds: float,
    seconds: float,
) -> None:
    """Fills the world, finds the rate, measures. RuntimeError when an answer was not what it should be."""
    async with world(campaigns, organizations, events, processes) as made:
        mix = Mix(made)
        await at_rate(made, mix, rate, step_seconds, users)  # plans, keys, connections
        found = await highest(made, mix, rate, step_seconds, users)

        async def at(rate: float) -> Run:
            run = await at_rate(made, mix, rate, seconds, users)
            wrong = {what: times for what, times in run.unexpected.items() if not what.endswith(_BUSY)}
            if wrong:
                raise RuntimeError(f"unexpected answers: {wrong}")
            late = {kind: f"{share(sorted(taken), 0.99) * 1e3:.0f} ms" for kind, taken in run.seconds.items()}
            print(f"{rate:.0f}/s: p99 {late} {dict(run.unexpected) or ''}", flush=True)  # noqa: T201  its progress
            return run

        most = await kept_up(at, found)
        last = await slower(at, most)
        await _require_counted(made, mix.tracked)
        notes = (
            f"{campaigns:,} campaigns of {organizations} organizations, {events:,} events, {users:,} users"
        )
        report.add(*report_of(most, "the highest rate it keeps up with", notes))
        if last is not most:
            report.add(*report_of(last, _PLANNED if last.is_within_goals else _SLOWEST, notes))


async def _require_counted(made: World, tracked: int) -> None:
    """Void when the ledger has not counted each event that `track` has promised, once, or when the aggregator
    found something else in ClickHouse than it had stored: to mend that is no work of the control API."""
    ledger, counted = await asyncpg.connect(made.api.dsn), 0
    try:
        deadline = time.monotonic() + _DRAIN_SECONDS
        while counted != tracked and time.monotonic() < deadline:
            await asyncio.sleep(0.5)
            counted = int(await ledger.fetchval("SELECT sum(impressions) FROM ledger.accounts"))
    finally:
        await ledger.close()
    if counted != tracked:
        raise Void(f"{tracked:,} events were promised, the ledger has {counted:,}")
    if mended := await made.settling.metric("flightline_blocks_repaired_total"):
        raise Void(f"{mended:,.0f} blocks had to be mended")


async def rows(report: Report, form: Form) -> None:
    """With as much of everything as the goals are for."""
    await measure(
        report,
        campaigns=form.campaigns,
        organizations=ORGANIZATIONS,
        events=MOST_EVENTS,
        processes=PROCESSES,
        users=USERS,
        rate=_FIRST_RATE,
        step_seconds=2 * form.seconds,
        seconds=form.asked_seconds,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--campaigns", type=int, default=10_000)
    parser.add_argument("--organizations", type=int, default=ORGANIZATIONS)
    parser.add_argument("--events", type=int, default=MOST_EVENTS)
    parser.add_argument("--processes", type=int, default=PROCESSES, help="of the control API, on one port")
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--rate", type=float, default=_FIRST_RATE, help="requests a second, at first")
    parser.add_argument("--step-seconds", type=float, default=10.0, help="of each rate that is tried")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the rate that is measured")
    report = Report()
    uvloop.run(measure(report, **vars(parser.parse_args())))
    print(f"\n{report.table()}")  # noqa: T201  its output


if __name__ == "__main__":
    main()
