"""What is forgotten when it is old enough, a portion at a time."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from control_api.errors import Unavailable

log = structlog.get_logger(__name__)

EVERY_SECONDS = 600.0


async def forgetting(what: str, portion: Callable[[], Awaitable[bool]], every: float = EVERY_SECONDS) -> None:
    """Does a portion until there is no more of it, then anew after `every` seconds, until cancelled; any
    number of replicas may. `portion` tells whether there may be more; `what` it is about, in the log."""
    while True:
        try:
            while await portion():
                pass
        except Unavailable as error:
            log.info("forgetting.later", what=what, error=str(error))
        await asyncio.sleep(every)
