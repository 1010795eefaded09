"""Sends events to the door: batches in flight at the same time, retries, closed campaigns held back."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence

import msgspec

from compose.replay.door import Door, NotNow, Result, Status
from compose.replay.errors import DoorAway, UnreadableFile
from compose.replay.gates import Gates, OnClosed
from compose.replay.held import HeldEvents
from compose.replay.pacer import Pacer
from compose.replay.plan import OutgoingEvent

_BATCH_BYTES = 900_000
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 10.0
_POLL_S = 0.25
_YIELD_EVERY = 1_000
"""The file is read on the event loop: answers get their turn after this many events at the latest."""

Answered = Sequence[tuple[OutgoingEvent, Result]]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to send. `rate` is events per second; `patience_s` bounds how long a batch is tried."""

    on_closed: OnClosed = OnClosed.SEND
    rate: float | None = None
    batch: int = 500
    in_flight: int = 8
    patience_s: float = 600.0


class Observer(msgspec.Struct, frozen=True):
    """Is told of final answers, of events that are not sent (with the reason), and of those sent again."""

    answered: Callable[[Answered], None]
    skipped: Callable[[OutgoingEvent, str], None]
    retried: Callable[[int], None]


class Stopped(Exception):
    """A campaign was closed, and the policy is to stop."""


class Sender:
    """One replay. Every event handed to `run` is answered once, held until it can be, or skipped."""

    def __init__(self, door: Door, options: Options, observer: Observer) -> None:
        self._door = door
        self._options = options
        self._observer = observer
        self._gates = Gates(options.on_closed)
        self._pacer = Pacer(options.rate)
        self._free = asyncio.Semaphore(options.in_flight)
        self._flying = 0
        self._held: dict[str, HeldEvents] = {}
        self._batch: list[OutgoingEvent] = []
        self._batch_bytes = 0

    @property
    def waiting_for(self) -> dict[str, int]:
        """How many events are held for each closed campaign."""
        return {campaign_id: len(held) for campaign_id, held in self._held.items() if held}

    async def run(self, events: Iterator[OutgoingEvent]) -> None:
        """Sends all and returns when all are answered or skipped.

        Raises Stopped, DoorRefused or DoorAway; what is in flight then is answered first where it can be.
        """
        problem: Exception | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                poller = tasks.create_task(self._poll())
                try:
                    await self._send_all(events, tasks)
                except (Stopped, UnreadableFile) as error:
                    problem = error  # what is in flight is answered first
                poller.cancel()
        except BaseExceptionGroup as group:
            raise _first(group) from None
        finally:
            for held in self._held.values():
                held.close()
        if problem is not None:
            raise problem

    async def _send_all(self, events: Iterator[OutgoingEvent], tasks: asyncio.TaskGroup) -> None:
        for number, event in enumerate(events):
            if number % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
            if self._held:
                await self._release(tasks)
            await self._route(event, tasks)
        await self._flush(tasks)
        while self.waiting_for or self._flying:
            await self._release(tasks)
            await self._flush(tasks)
            await asyncio.sleep(_POLL_S / 5)

    async def _route(self, event: OutgoingEvent, tasks: asyncio.TaskGroup) -> None:
        reason = self._gates.closed.get(event.campaign_id)
        if reason is None and event.campaign_id not in self._held:
            await self._add(event, tasks)
        elif self._options.on_closed is OnClosed.WAIT:
            self._held.setdefault(event.campaign_id, HeldEvents()).append(event)
        elif self._options.on_closed is OnClosed.STOP:
            await self._flush(tasks)
            raise Stopped(f"campaign {event.campaign_id} is closed ({reason or 'no reason given'})")
        else:
            self._observer.skipped(event, reason or "")

    async def _release(self, tasks: asyncio.TaskGroup) -> None:
        """Sends what is held of campaigns that are open now, the oldest first."""
        for campaign_id in [c for c in self._held if c not in self._gates.closed]:
            held = self._held[campaign_id]
            while len(held) and campaign_id not in self._gates.closed:
                for event in held.take(self._options.batch):
                    await self._add(event, tasks)
            if not len(held):
                held.close()
                del self._held[campaign_id]

    async def _add(self, event: OutgoingEvent, tasks: asyncio.TaskGroup) -> None:
        if self._batch_bytes + len(event.body) > _BATCH_BYTES:
            await self._flush(tasks)
        self._batch.append(event)
        self._batch_bytes += len(event.body) + 1
        if len(self._batch) >= self._options.batch:
            await self._flush(tasks)

    async def _flush(self, tasks: asyncio.TaskGroup) -> None:
        if not self._batch:
            return
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        await asyncio.sleep(self._pacer.delay(len(batch), time.monotonic()))
        await self._free.acquire()
        self._flying += 1
        tasks.create_task(self._deliver(batch))

    async def _deliver(self, batch: list[OutgoingEvent]) -> None:
        """Tries until every event of the batch has its answer; the same ids each time."""
        deadline = time.monotonic() + self._options.patience_s
        pause = _FIRST_PAUSE_S
        try:
            while batch:
                if pause > _FIRST_PAUSE_S:
                    self._observer.retried(len(batch))
                batch, wait = await self._attempt(batch, pause)
                if batch and time.monotonic() + wait > deadline:
                    raise DoorAway(
                        f"no usable answer within {self._options.patience_s:.0f} s; sent again later, "
                        "the same command goes on where it ended (answered events count once)"
                    )
                if batch:
                    await asyncio.sleep(wait)
                    pause = min(pause * 2, _LONGEST_PAUSE_S)
        finally:
            self._flying -= 1
            self._free.release()

    async def _attempt(self, batch: list[OutgoingEvent], pause: float) -> tuple[list[OutgoingEvent], float]:
        """What is left to send, and how long to wait before."""
        try:
            results = await self._door.send(batch)
        except NotNow as refusal:
            wait = refusal.retry_after if refusal.retry_after is not None else pause
            return batch, wait * random.uniform(1.0, 1.25)  # noqa: S311  spreads retries, protects nothing
        final: list[tuple[OutgoingEvent, Result]] = []
        again: list[OutgoingEvent] = []
        for event, result in zip(batch, results, strict=True):
            if result.status is Status.RETRY:
                again.append(event)
            else:
                final.append((event, result))
                self._gates.answered(event.campaign_id, result)
        self._observer.answered(final)
        return again, pause

    async def _poll(self) -> None:
        """Asks the door whether closed campaigns have opened."""
        while True:
            await asyncio.sleep(_POLL_S)
            if closed := list(self._gates.closed):
                try:
                    self._gates.polled(await self._door.serving(closed))
                except NotNow:
                    continue


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first of the errors that tasks ended with at the same time."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
