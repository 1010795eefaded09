"""Writes seldom when keys were used, and forgets sessions and attempts that are over."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from control_api.domain.control_keys import StoredControlKey
from control_api.errors import Unavailable
from control_api.handlers.ports import Clock

log = structlog.get_logger(__name__)

_SELDOM = timedelta(minutes=5)
_MOST = 10_000
_WRITE_SECONDS = 15.0
_FORGET_SECONDS = 600.0
_SESSIONS_KEPT = timedelta(days=30)
_TOKENS_KEPT = timedelta(days=7)


class Records(Protocol):
    """Where it is written. Raises Unavailable while that cannot be reached."""

    async def keys_were_used(self, used: Mapping[str, datetime]) -> None: ...

    async def forget(self, before: datetime, used_before: datetime, now: datetime) -> bool: ...


class UsedKeys:
    """Uses of keys that are not written yet. A process that dies loses some minutes of `lastUsedAt`."""

    def __init__(self) -> None:
        self._used: dict[str, datetime] = {}

    def note(self, key: StoredControlKey, now: datetime) -> None:
        """A request came with this key."""
        known = self._used.get(key.id) or key.last_used_at
        if (known is None or now - known >= _SELDOM) and len(self._used) < _MOST:
            self._used[key.id] = now

    async def write(self, records: Records) -> None:
        """Writes what was noted."""
        used = self._used
        if not used:
            return
        self._used = {}
        try:
            await records.keys_were_used(used)
        except Unavailable:
            self._used = used | self._used
            raise


async def run_used_keys(used: UsedKeys, records: Records) -> None:
    """Runs until cancelled."""
    while True:
        await asyncio.sleep(_WRITE_SECONDS)
        try:
            await used.write(records)
        except Unavailable as error:
            log.info("used_keys.not_written_yet", error=str(error))


async def run_forgetting(records: Records, clock: Clock) -> None:
    """Runs until cancelled; any number of replicas may."""
    while True:
        try:
            now = clock()
            while await records.forget(now - _SESSIONS_KEPT, now - _TOKENS_KEPT, now):
                pass
        except Unavailable as error:
            log.info("access.not_forgotten_yet", error=str(error))
        await asyncio.sleep(_FORGET_SECONDS)
