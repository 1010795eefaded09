"""How users, sessions and keys stand now, as Postgres has it, remembered for some seconds.

A token says what held when it was signed. Whoever was deactivated, changed or logged out since then is found
here: at the next request in the process where it happened, within SECONDS in the others.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Generic, Protocol, TypeVar

import msgspec

from control_api.domain.control_keys import StoredControlKey

SECONDS = 3.0
_MOST = 20_000
K = TypeVar("K")
V = TypeVar("V")


class Standing(msgspec.Struct, frozen=True):
    """`is_user`: it has a row of ours; then `active` and `roles` are what that says."""

    is_user: bool
    active: bool
    roles: tuple[str, ...]
    in_session: bool = False


class KeyStanding(msgspec.Struct, frozen=True):
    """A control key, and how its maker stands."""

    key: StoredControlKey
    maker: Standing


class Register(Protocol):
    """Where it is written. Raises Unavailable while that cannot be read."""

    async def standing(
        self, organization_id: str, user_id: str, session_id: str | None, now: datetime
    ) -> Standing | None:
        """None when there is no such organization."""

    async def key_standing(self, key_hash: str) -> KeyStanding | None: ...


class Remembered(Generic[K, V]):
    """Values by key, each for some seconds from the moment it was asked for; the latest used are kept.

    Whoever asks while somebody else is asking for the same gets his answer.
    """

    def __init__(self, seconds: float, most: int = _MOST) -> None:
        self._seconds = seconds
        self._most = most
        self._values: OrderedDict[K, tuple[float, asyncio.Future[V]]] = OrderedDict()

    async def get(self, key: K, ask: Callable[[], Awaitable[V]]) -> V:
        """The value, asked for when it is not known."""
        now = asyncio.get_running_loop().time()
        at, found = self._values.get(key, (0.0, None))
        if found is None or now - at > self._seconds or _has_failed(found):
            found = asyncio.ensure_future(ask())
            self._values[key] = (now, found)
            while len(self._values) > self._most:
                self._values.popitem(last=False)
        self._values.move_to_end(key)
        # Shielded: one that leaves takes nobody's answer with it.
        return await asyncio.shield(found)

    def forget(self, is_old: Callable[[K], bool]) -> None:
        """Drops what is known of these keys."""
        for key in [key for key in self._values if is_old(key)]:
            del self._values[key]

    def drop(self, key: K) -> None:
        """Drops what is known of one key."""
        self._values.pop(key, None)

    def __contains__(self, key: object) -> bool:
        return key in self._values


def _has_failed(found: "asyncio.Future[V]") -> bool:
    return found.done() and (found.cancelled() or found.exception() is not None)


class Standings:
    """What is known of users, sessions and keys."""

    def __init__(self, register: Register, seconds: float = SECONDS) -> None:
        self._register = register
        self._users: Remembered[tuple[str, str, str | None], Standing | None] = Remembered(seconds)
        self._keys: Remembered[str, KeyStanding | None] = Remembered(seconds)

    async def of_user(
        self, organization_id: str, user_id: str, session_id: str | None, now: datetime
    ) -> Standing | None:
        """None when there is no such organization."""
        return await self._users.get(
            (organization_id, user_id, session_id),
            lambda: self._register.standing(organization_id, user_id, session_id, now),
        )

    async def of_key(self, key_hash: str) -> KeyStanding | None:
        """None when there is no such key."""
        found = await self._keys.get(key_hash, lambda: self._register.key_standing(key_hash))
        if found is None:  # keys that somebody guesses take no place
            self._keys.drop(key_hash)
        return found

    def knows_key(self, key_hash: str) -> bool:
        """Whether this key was good a short time ago."""
        return key_hash in self._keys

    def user_changed(self, user_id: str) -> None:
        """To be asked for anew: all of a user, and the keys that it may have made."""
        self._users.forget(lambda known: known[1] == user_id)
        self._keys.forget(lambda _: True)

    def key_changed(self) -> None:
        """To be asked for anew: all keys. They are revoked seldom."""
        self._keys.forget(lambda _: True)


def is_over(at: datetime | None, now: datetime) -> bool:
    """Whether an end that may be set has come."""
    return at is not None and at <= now
