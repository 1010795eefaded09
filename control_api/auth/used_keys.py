"""When keys were last used: noted with each request, written seldom."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol

from control_api.domain.control_keys import StoredControlKey
from control_api.errors import Unavailable

_SELDOM = timedelta(minutes=5)
_MOST = 10_000


class UseRecords(Protocol):
    """Where it is written. Raises Unavailable while that cannot be reached."""

    async def keys_were_used(self, used: Mapping[str, datetime]) -> None: ...


class UsedKeys:
    """Uses of keys that are not written yet. A process that dies loses some minutes of `lastUsedAt`."""

    def __init__(self) -> None:
        self._used: dict[str, datetime] = {}

    def note(self, key: StoredControlKey, now: datetime) -> None:
        """A request came with this key."""
        known = self._used.get(key.id) or key.last_used_at
        if (known is None or now - known >= _SELDOM) and len(self._used) < _MOST:
            self._used[key.id] = now

    async def write(self, records: UseRecords) -> None:
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
