"""Hands what Faust delivers to the settlement, each partition in a lane of its own."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

import structlog
from faust.types import TP

from aggregator.domain.batch import LogRecord
from aggregator.log_reader import log_record
from schemas.topics import TRACKING_EVENTS

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 0.2


class Settles(Protocol):
    """As much of the settlement as the lanes need."""

    async def settle(self, partition: int, records: list[LogRecord]) -> int | None: ...

    def waits(self, partition: int) -> bool: ...


class Pauses(Protocol):
    """As much of Faust's consumer as the lanes need."""

    def assignment(self) -> set[TP]: ...

    def pause_partitions(self, tps: Iterable[TP]) -> None: ...

    def resume_partitions(self, tps: Iterable[TP]) -> None: ...


class Lanes:
    """A take is done when all of its partitions are, but for those that wait for ClickHouse.

    Such a partition is paused, and goes on by itself: it must not hold up the others, whose campaigns would
    be shown beyond their budgets for as long. What Faust had buffered of it queues up here.
    """

    def __init__(
        self, settlement: Settles, consumer: Pauses, crash: Callable[[BaseException], Awaitable[None]]
    ) -> None:
        self._settlement = settlement
        self._consumer = consumer
        self._crash = crash
        self._queues: dict[int, deque[list[Any]]] = {}
        """Of the partitions that wait, the events that came since."""
        self._following: set[asyncio.Task[None]] = set()

    async def take(self, events: Iterable[Any]) -> None:
        """Settles Faust's events and acks those that are settled."""
        running: dict[asyncio.Task[bool], int] = {}
        for partition, members in _by_partition(events).items():
            if (queue := self._queues.get(partition)) is not None:
                queue.append(members)
            else:
                running[asyncio.ensure_future(self._settle(partition, members))] = partition
        try:
            await self._done_or_waiting(running)
        except BaseException:
            for task in running:
                task.cancel()
            raise

    async def _done_or_waiting(self, running: dict[asyncio.Task[bool], int]) -> None:
        while running:
            done, pending = await asyncio.wait(running, timeout=_LOOK_SECONDS)
            for task in done:
                del running[task]
                task.result()
            for task in pending:
                if self._settlement.waits(running[task]):
                    self._leave_behind(running.pop(task), task)

    def _leave_behind(self, partition: int, task: asyncio.Task[bool]) -> None:
        log.warning("lanes.paused", partition=partition, reason="its billing waits for ClickHouse")
        self._queues[partition] = deque()
        self._consumer.pause_partitions({TP(TRACKING_EVENTS, partition)})
        following = asyncio.ensure_future(self._follow(partition, task))
        self._following.add(following)
        following.add_done_callback(self._following.discard)

    async def _follow(self, partition: int, task: asyncio.Task[bool]) -> None:
        queue = self._queues[partition]
        try:
            settled = await task
            while settled and queue:
                settled = await self._settle(partition, queue.popleft())
        except Exception as error:
            log.exception("lanes.failed", partition=partition)
            await self._crash(error)
            return
        finally:
            del self._queues[partition]
        # Handed over it is not ours to resume: Faust does that, once it is sought.
        if settled and (tp := TP(TRACKING_EVENTS, partition)) in self._consumer.assignment():
            log.info("lanes.resumed", partition=partition)
            self._consumer.resume_partitions({tp})

    async def _settle(self, partition: int, events: list[Any]) -> bool:
        if await self._settlement.settle(partition, [_record(event.message) for event in events]) is None:
            return False
        for event in events:
            event.ack()
        return True


def _by_partition(events: Iterable[Any]) -> dict[int, list[Any]]:
    """In the order of the log."""
    partitions: dict[int, list[Any]] = {}
    for event in events:
        partitions.setdefault(event.message.partition, []).append(event)
    return partitions


def _record(message: Any) -> LogRecord:
    return log_record(message.offset, round(message.timestamp * 1000), message.headers, message.value)
