"""The demo: a stack, campaigns, visitors, and the small campaign's way to its last cent."""

import asyncio
import os
import signal
import time
from collections.abc import Coroutine
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec
from rich.console import Console

from compose.demo.board import Board
from compose.demo.control import Campaign, ControlApi
from compose.demo.farewell import farewell
from compose.demo.scenario import SMALL, Running, start_campaigns
from compose.errors import ComposeError
from compose.layout import Ports, State
from compose.ready import Ready
from compose.stack import Options, Stack, locked
from compose.visitors import Visitors, totals

_T = TypeVar("_T")

_LOOK_EVERY_S = 0.5
_PAUSE_IS_SHOWN_S = 3.0
_STORY_WITHIN_S = 85.0
_COUNTED_WITHIN_S = 20.0


class DemoFailed(ComposeError):
    """What the product promises was not seen."""


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `flightline demo` was asked for."""

    state: Path
    ports: Ports
    once: bool


async def run(options: DemoOptions, console: Console) -> None:
    """Runs until the story is told (`once`) or until Ctrl-C. Raises DemoFailed when a promise was broken,
    ComposeError when the stack can't be had."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    with locked(State(options.state.resolve())):
        stack = Stack(
            Options(state=options.state, ports=options.ports),
            os.environ,
            lambda line: console.print(line, soft_wrap=True, markup=False),
        )
        try:
            ready = await _unless_stopped(stack.up(), stop)
            if ready is not None:
                await _play(ready, options, console, stop)
        finally:
            console.print("stopping")
            await stack.down()


async def _play(ready: Ready, options: DemoOptions, console: Console, stop: asyncio.Event) -> None:
    async with ControlApi(ready.control_api, ready.admin_token) as api:
        campaigns = await start_campaigns(api, datetime.now().astimezone().strftime("%H:%M:%S"))
        with Board(console, campaigns) as board:
            story = Story(api, campaigns, board)
            seed = time.time_ns()
            visitors = Visitors(ready.ingest, ready.write_key, ready.server_key, campaigns, seed)
            ended = asyncio.Event()
            traffic = asyncio.create_task(visitors.run(ended))
            try:
                await _unless_stopped(story.tell(), stop)
                if not options.once and not stop.is_set():
                    board.tell("the traffic goes on until Ctrl-C; see below what to open and to try")
                    board.show(story.states)
                    console.print(farewell(ready, story.small.id), soft_wrap=True, highlight=False)
                    await _unless_stopped(story.watch(), stop)
            finally:
                ended.set()
                await traffic
            if options.once and not stop.is_set():
                await story.check_counts(visitors)
        if options.once and not stop.is_set():
            console.print(farewell(ready, story.small.id), soft_wrap=True, highlight=False)
            console.print("with --once the stack ends here; without it, it keeps running until Ctrl-C")


class Story:
    """Watches the campaigns, resumes the small one, and holds the pipeline to its promises."""

    def __init__(self, api: ControlApi, campaigns: list[Running], board: Board) -> None:
        self._api = api
        self._campaigns = campaigns
        self._board = board
        self.small = next(running for running in campaigns if running.plot.name == SMALL)
        self.states: dict[str, Campaign] = {}

    async def tell(self) -> None:
        """From the first visitor to the small campaign's last cent. Raises DemoFailed."""
        budget = f"{self.small.budget} EUR"
        self._board.tell(f"visitors come; {SMALL} may spend {budget}")
        deadline = time.monotonic() + _STORY_WITHIN_S
        paused = await self._until("PAUSED", deadline)
        self._board.tell(f"{SMALL} has passed 90 % of {budget}: {_told(paused)}")
        await asyncio.sleep(_PAUSE_IS_SHOWN_S)
        await self._look()
        await self._api.activate(self.small.id, acknowledgeBudget=True)
        self._board.tell(f"{SMALL} is resumed with acknowledgeBudget")
        completed = await self._until("COMPLETED", deadline)
        self._board.tell(f"{SMALL} has passed 100 % of {budget}: {_told(completed)}")
        self._check(completed)
        self._board.tell(f"billed equals the budget to the micro: {_billed(completed):.6f} = {budget}")

    async def watch(self) -> None:
        """Shows the figures until cancelled."""
        while True:
            await self._look()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def check_counts(self, visitors: Visitors) -> None:
        """Waits until each campaign has counted what the door promised; DemoFailed when it never does."""
        deadline = time.monotonic() + _COUNTED_WITHIN_S
        while wrong := self._miscounted(visitors):
            if time.monotonic() > deadline:
                raise DemoFailed(f"the door promised other counts than were counted: {wrong}.")
            await self._look()
        events = sum(visitors.counted.values())
        self._board.tell(f"{events:,} events promised by the door, {events:,} counted: each exactly once")
        for state in self.states.values():
            if state.budget is not None and _billed(state) > state.budget.amount:
                raise DemoFailed(f"{state.name} is billed {_billed(state)}, above its {state.budget.amount}.")

    def _miscounted(self, visitors: Visitors) -> str:
        for running in self._campaigns:
            state = self.states.get(running.id)
            metrics = state.metrics if state else None
            promised = totals(visitors.counted, running.id)
            counted = (metrics.impressions, metrics.clicks, metrics.conversions) if metrics else None
            if promised != counted:
                return f"{running.plot.name} {promised}, counted {counted}"
        return ""

    async def _until(self, status: str, deadline: float) -> Campaign:
        while True:
            await self._look()
            state = self.states.get(self.small.id)
            if state is not None and state.status == status:
                return state
            if time.monotonic() > deadline:
                seen = state.status if state else "never seen"
                raise DemoFailed(f"{SMALL} is {seen}, not {status}, after {_STORY_WITHIN_S:.0f} s.")
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _look(self) -> None:
        try:
            found = await asyncio.gather(*(self._state(running.id) for running in self._campaigns))
        except (aiohttp.ClientError, TimeoutError):
            return  # the API is started again; the next look finds it
        self.states = {state.id: state for state in found}
        self._board.show(self.states)

    async def _state(self, campaign_id: str) -> Campaign:
        campaign, metrics = await asyncio.gather(self._api.get(campaign_id), self._api.metrics(campaign_id))
        return msgspec.structs.replace(campaign, metrics=metrics)

    def _check(self, completed: Campaign) -> None:
        if _billed(completed) != self.small.budget:
            raise DemoFailed(f"{SMALL} is billed {_billed(completed)}, its budget is {self.small.budget}.")


def _billed(campaign: Campaign) -> Decimal:
    return campaign.metrics.cost.amount if campaign.metrics else Decimal(0)


def _told(campaign: Campaign) -> str:
    return f"{campaign.status} ({campaign.status_reason}), billed {_billed(campaign):.6f}"


async def _unless_stopped(work: Coroutine[Any, Any, _T], stop: asyncio.Event) -> _T | None:
    """The result of `work`, or None when `stop` came first and it was cancelled."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
