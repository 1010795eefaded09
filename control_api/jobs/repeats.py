"""Forgets what requests with an Idempotency-Key have done, a day later."""

import asyncio
from datetime import timedelta

import structlog

from control_api.errors import Unavailable
from control_api.handlers.ports import Clock
from control_api.stores.once import Repeats

log = structlog.get_logger(__name__)

KEPT = timedelta(hours=24)
_EVERY_SECONDS = 600.0


async def run(repeats: Repeats, clock: Clock) -> None:
    """Runs until cancelled."""
    while True:
        try:
            while await repeats.forget(clock() - KEPT):
                pass
        except Unavailable as error:
            log.info("repeats.not_forgotten_yet", error=str(error))
        await asyncio.sleep(_EVERY_SECONDS)
