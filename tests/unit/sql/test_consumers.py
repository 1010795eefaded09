"""Ending a consumer: whatever its `stop` does, the caller goes on, and the connections are closed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from sql import consumers
from sql.consumers import end_consumer, positions


class Consumer:
    """As much of aiokafka's as is needed to end it."""

    def __init__(self, stop: Callable[[], Awaitable[None]]) -> None:
        self.stop = stop
        self.closed = False
        self._client = self

    async def close(self) -> None:
        self.closed = True


async def hangs() -> None:
    await asyncio.Event().wait()


async def fails() -> None:
    raise KafkaConnectionError("what the fetcher ended with")


async def is_cancelled() -> None:
    fetcher = asyncio.create_task(hangs())
    await asyncio.sleep(0)
    fetcher.cancel()
    await fetcher


@pytest.mark.parametrize("stop", [hangs, fails, is_cancelled])
async def test_a_consumer_that_does_not_stop_well_is_closed_and_the_caller_goes_on(
    stop: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "_END_SECONDS", 0.05)
    consumer = Consumer(stop)
    await end_consumer(cast("Any", consumer))
    assert consumer.closed


async def test_the_callers_own_cancellation_is_not_swallowed() -> None:
    ending = asyncio.create_task(end_consumer(cast("Any", Consumer(hangs))))
    await asyncio.sleep(0)
    ending.cancel()
    await asyncio.wait({ending})
    assert ending.cancelled()


async def test_a_position_that_is_never_known_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Unplaced:
        async def position(self, _: TopicPartition) -> None:
            await hangs()

    monkeypatch.setattr(consumers, "_POSITION_SECONDS", 0.05)
    with pytest.raises(TimeoutError):
        await positions(cast("Any", Unplaced()), [TopicPartition("t", 0)])
