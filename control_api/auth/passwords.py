"""Passwords: argon2id, in threads, a few at a time, so that logins cannot take the machine."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from control_api.domain.users import normal
from control_api.errors import Unavailable

T = TypeVar("T")

_AT_A_TIME = 2
_MOST_WAITING = 100
_SALT_BYTES = 16
_HASH_BYTES = 32
# One of the settings of equal strength that OWASP's cheat sheet on password storage names: 46 MiB, one pass.
_MEMORY_KIB = 47_104
_PASSES = 1


class Argon2Passwords:
    """Implements handlers.access_ports.Passwords."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(
            time_cost=_PASSES,
            memory_cost=_MEMORY_KIB,
            parallelism=1,
            hash_len=_HASH_BYTES,
            salt_len=_SALT_BYTES,
        )
        self._threads = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="passwords")
        self._waiting = 0
        self._nobodys: str | None = None

    async def hash(self, password: str) -> str:
        """A new hash with a salt of its own, in the PHC format."""
        return await self._run(partial(self._hasher.hash, normal(password)))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether it is this password. Without a hash, the same work is done for nothing."""
        if self._nobodys is None:
            self._nobodys = await self.hash("nobody's password")
        compare = partial(self._compare, password_hash or self._nobodys, normal(password))
        return await self._run(compare) and password_hash is not None

    def is_outdated(self, password_hash: str) -> bool:
        """Whether it was hashed with other settings than today's."""
        return self._hasher.check_needs_rehash(password_hash)

    def _compare(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: partial[T]) -> T:
        if self._waiting >= _MOST_WAITING:
            raise Unavailable("too many passwords are being checked at this moment")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1
