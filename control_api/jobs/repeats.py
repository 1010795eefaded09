"""Forgets what requests with an Idempotency-Key have done, a day later."""

from datetime import timedelta

from control_api.handlers.ports import Clock
from control_api.jobs.forgetting import forgetting
from control_api.stores.once import Repeats

KEPT = timedelta(hours=24)


async def forget(repeats: Repeats, clock: Clock) -> None:
    """Runs until cancelled."""
    await forgetting("repeats", lambda: repeats.forget(clock() - KEPT))
