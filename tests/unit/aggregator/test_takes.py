import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing

import pytest

from aggregator.takes import takes

_NEVER = 60.0
_SOON = 0.01


async def _given(pieces: Iterable[int], then: asyncio.Event | None = None) -> AsyncIterator[int]:
    for piece in pieces:
        yield piece
    if then is not None:
        await then.wait()


def _itself(piece: int) -> int:
    return piece


async def test_a_take_is_handed_on_as_soon_as_it_is_full_with_the_piece_that_filled_it() -> None:
    async with aclosing(takes(_given([3, 3, 9, 1]), _itself, most=5, within=_NEVER)) as all_of:
        assert [take async for take in all_of] == [[3, 3], [9], [1]]


async def test_a_take_that_is_not_full_is_handed_on_in_time() -> None:
    async with aclosing(takes(_given([1, 2], asyncio.Event()), _itself, most=5, within=_SOON)) as all_of:
        assert await anext(all_of) == [1, 2]


async def test_what_came_while_a_take_was_worked_on_has_waited_already() -> None:
    may_come, within = asyncio.Event(), 0.2

    async def given() -> AsyncIterator[int]:
        yield 1
        await may_come.wait()
        yield 2
        await asyncio.Event().wait()

    async with aclosing(takes(given(), _itself, most=5, within=within)) as all_of:
        assert await anext(all_of) == [1]
        may_come.set()
        await asyncio.sleep(within + _SOON)
        next_one = asyncio.ensure_future(anext(all_of))
        for _ in range(20):  # turns of the loop, and no time
            await asyncio.sleep(0)
        assert next_one.done()
        assert next_one.result() == [2]


async def test_while_a_take_is_worked_on_only_the_next_one_is_collected() -> None:
    taken: list[int] = []

    async def counted() -> AsyncIterator[int]:
        for piece in [5] * 9:
            taken.append(piece)
            yield piece

    async with aclosing(takes(counted(), _itself, most=5, within=_NEVER)) as all_of:
        assert await anext(all_of) == [5]
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(taken) == 3  # one was handed on, one is collected, one waits for room


async def test_what_came_before_a_fault_is_handed_on_before_it_is_raised() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise OSError("gone")

    async with aclosing(takes(broken(), _itself, most=5, within=_NEVER)) as all_of:
        assert await anext(all_of) == [1]
        with pytest.raises(OSError, match="gone"):
            await anext(all_of)


async def test_it_collects_no_more_once_it_is_closed() -> None:
    is_closed = asyncio.Event()

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
                await asyncio.sleep(0)
        finally:
            is_closed.set()

    async with aclosing(takes(endless(), _itself, most=5, within=_SOON)) as all_of:
        await anext(all_of)
    async with asyncio.timeout(5):
        await is_closed.wait()


async def test_of_nothing_there_is_no_take() -> None:
    async with aclosing(takes(_given([]), _itself, most=5, within=_SOON)) as all_of:
        assert [take async for take in all_of] == []
