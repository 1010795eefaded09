"""Writes when keys were used, and forgets sessions and attempts that are over."""

import asyncio
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from control_api.auth.used_keys import UsedKeys, UseRecords
from control_api.errors import Unavailable
from control_api.handlers.ports import Clock
from control_api.jobs.forgetting import forgetting

log = structlog.get_logger(__name__)

_WRITE_SECONDS = 15.0
_SESSIONS_KEPT = timedelta(days=30)
_TOKENS_KEPT = timedelta(days=7)


class Sessions(Protocol):
    """Where they are. Raises Unavailable while that cannot be reached."""

    async def forget(self, before: datetime, used_before: datetime, now: datetime) -> bool: ...


async def write_used_keys(used: UsedKeys, records: UseRecords) -> None:
    """Runs until cancelled."""
    while True:
        await asyncio.sleep(_WRITE_SECONDS)
        try:
            await used.write(records)
        except Unavailable as error:
            log.info("used_keys.not_written_yet", error=str(error))


async def forget(sessions: Sessions, clock: Clock) -> None:
    """Runs until cancelled."""

    async def portion() -> bool:
        now = clock()
        return await sessions.forget(now - _SESSIONS_KEPT, now - _TOKENS_KEPT, now)

    await forgetting("sessions", portion)
