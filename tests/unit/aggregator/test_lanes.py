"""A partition that waits for ClickHouse holds up only itself, and goes on in the order of the log."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from aggregator.domain.batch import LogRecord
from aggregator.lanes import Lanes
from schemas.topics import TRACKING_EVENTS

_WITHIN_S = 5


class Settlement:
    """Settles at once, but for partition 1 while `clickhouse` is not set."""

    def __init__(self) -> None:
        self.clickhouse = asyncio.Event()
        self.settled: list[tuple[int, int]] = []
        self.owned = True
        self.fault: Exception | None = None

    async def settle(self, partition: int, records: list[LogRecord]) -> int | None:
        if partition == 1:
            await self.clickhouse.wait()
        if self.fault is not None:
            raise self.fault
        if not self.owned:
            return None
        self.settled += [(partition, record.offset) for record in records]
        return partition

    def waits(self, partition: int) -> bool:
        return partition == 1 and not self.clickhouse.is_set()


class Consumer:
    """Knows what is paused."""

    def __init__(self) -> None:
        self.paused: set[TP] = set()

    def assignment(self) -> set[TP]:
        return {TP(TRACKING_EVENTS, partition) for partition in range(3)}

    def pause_partitions(self, tps: Iterable[TP]) -> None:
        self.paused |= set(tps)

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        self.paused -= set(tps)


class Event:
    """One of Faust's."""

    def __init__(self, partition: int, offset: int) -> None:
        self.message: Any = SimpleNamespace(
            partition=partition, offset=offset, timestamp=0.0, headers=None, value=b""
        )
        self.acked = False

    def ack(self) -> None:
        self.acked = True


class Scene:
    def __init__(self) -> None:
        self.settlement = Settlement()
        self.consumer = Consumer()
        self.crashes: list[BaseException] = []

        async def crash(error: BaseException) -> None:
            self.crashes.append(error)

        self.lanes = Lanes(self.settlement, self.consumer, crash)

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(_WITHIN_S):
            while not holds():
                await asyncio.sleep(0.01)


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def within(work: Awaitable[None]) -> None:
    await asyncio.wait_for(work, _WITHIN_S)


async def test_the_others_go_on_and_it_follows_in_order(scene: Scene) -> None:
    waiting, other = [Event(1, 0), Event(1, 1)], Event(0, 0)
    await within(scene.lanes.take([waiting[0], other, waiting[1]]))
    assert other.acked
    assert not any(event.acked for event in waiting)
    assert scene.consumer.paused == {TP(TRACKING_EVENTS, 1)}
    buffered, next_other = Event(1, 2), Event(0, 1)
    await within(scene.lanes.take([buffered, next_other]))
    assert next_other.acked
    scene.settlement.clickhouse.set()
    await scene.until(lambda: not scene.consumer.paused)
    assert [offset for partition, offset in scene.settlement.settled if partition == 1] == [0, 1, 2]
    assert all(event.acked for event in [*waiting, buffered])
    later = Event(1, 3)
    await within(scene.lanes.take([later]))
    assert later.acked


async def test_one_that_is_handed_over_leaves_the_rest_to_whoever_has_it_next(scene: Scene) -> None:
    await within(scene.lanes.take([Event(1, 0)]))
    buffered = Event(1, 1)
    await within(scene.lanes.take([buffered]))
    scene.settlement.owned = False
    scene.settlement.clickhouse.set()
    await asyncio.sleep(0.05)
    assert not buffered.acked
    assert scene.consumer.paused == {TP(TRACKING_EVENTS, 1)}  # Faust resumes it once it is sought
    scene.settlement.owned = True
    again = Event(1, 1)
    await within(scene.lanes.take([again]))
    assert again.acked


async def test_a_fault_behind_the_others_ends_the_process(scene: Scene) -> None:
    await within(scene.lanes.take([Event(1, 0)]))
    scene.settlement.fault = ValueError("what it met")
    scene.settlement.clickhouse.set()
    await scene.until(lambda: scene.crashes)


async def test_a_fault_of_a_take_is_the_takes_own(scene: Scene) -> None:
    scene.settlement.fault = ValueError("what it met")
    with pytest.raises(ValueError, match="what it met"):
        await within(scene.lanes.take([Event(0, 0)]))
