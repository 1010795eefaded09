"""Pieces that come one by one, handed on several at a time."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import suppress
from typing import TypeVar

Piece = TypeVar("Piece")


async def takes(
    pieces: AsyncIterable[Piece], size_of: Callable[[Piece], int], *, most: int, within: float
) -> AsyncGenerator[list[Piece], None]:
    """Yields the pieces in order, in lists: when the first one of a list has waited for `within` seconds, or
    as soon as there is a size of `most`, which the last piece may exceed.

    While a list is worked on, the next one is collected, and no more than that. What `pieces` raises is
    raised behind what came before it. To be closed (`aclosing`), also when an error leaves it.
    """
    loop = asyncio.get_running_loop()
    waiting: list[Piece] = []
    size, due = 0, 0.0
    some, full, room = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def collect() -> None:
        nonlocal size, due
        try:
            async for piece in pieces:
                while size >= most:
                    room.clear()
                    await room.wait()
                if not waiting:
                    due = loop.time() + within
                waiting.append(piece)
                size += size_of(piece)
                some.set()
                if size >= most:
                    full.set()
        finally:
            some.set()
            full.set()

    collecting = asyncio.create_task(collect())
    try:
        while not collecting.done() or waiting:
            await some.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await full.wait()
            take, waiting, size = waiting, [], 0
            if not collecting.done():
                some.clear()
                full.clear()
            room.set()
            if take:
                yield take
        collecting.result()
    finally:
        collecting.cancel()
