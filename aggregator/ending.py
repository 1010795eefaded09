"""Ends the process in time, whatever it waits for."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog

log = structlog.get_logger(__name__)

_STOP_SECONDS = 3.5
_HANDOVER_SECONDS = 4.5


@contextlib.asynccontextmanager
async def in_time(hand_over: Callable[[], Awaitable[None]], code: Callable[[], int]) -> AsyncIterator[None]:
    """Around the worker's stop. One that takes longer than 3.5 s is not waited for any more: Faust's
    consumer waits for a frozen Kafka for minutes, to commit what is for displays and to leave its group.

    What matters is done (`hand_over`, 4.5 s at most) and the process ends with `code()`. The ledger is
    the truth at every moment, so that nothing depends on what was left undone.
    """
    ending = asyncio.create_task(_end(hand_over, code))
    try:
        yield
    finally:
        ending.cancel()


async def _end(hand_over: Callable[[], Awaitable[None]], code: Callable[[], int]) -> None:
    await asyncio.sleep(_STOP_SECONDS)
    log.warning("ending.not_stopped_in_time", seconds=_STOP_SECONDS)
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_HANDOVER_SECONDS):
            await hand_over()
    log.info("ending.ended")
    os._exit(code())
