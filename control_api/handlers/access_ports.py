"""What handlers of users, sessions, control keys and logins need of the world."""

from datetime import datetime
from typing import Protocol

import msgspec

from control_api.domain.control_keys import StoredControlKey
from control_api.domain.sessions import RefreshToken
from control_api.domain.users import StoredUser


class OpenSession(msgspec.Struct, frozen=True, kw_only=True):
    """A login somewhere. `ended_at` is set by a logout, or when a token of it was stolen."""

    id: str
    organization_id: str
    user_id: str
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None


class Users(Protocol):
    """Users of organizations, in a transaction."""

    async def lock_all(self, organization_id: str) -> bool:
        """Changes of the organization's users wait for each other; False when there is no organization."""

    async def create(self, user: StoredUser) -> None: ...

    async def email_is_taken(self, organization_id: str, email: str) -> bool: ...

    async def get(self, organization_id: str, user_id: str) -> StoredUser | None: ...

    async def hold(self, organization_id: str, user_id: str) -> StoredUser | None:
        """The same; it stays as it is until the transaction ends."""

    async def update(self, user: StoredUser) -> None:
        """Writes a user of a locked organization; its version goes up by one."""

    async def rehash(self, user: StoredUser, password_hash: str) -> None:
        """The same password, hashed as it is done now."""

    async def other_admins(self, user: StoredUser) -> int:
        """How many active admins there are beside this user."""


class Sessions(Protocol):
    """Logins and their refresh tokens, in a transaction. Tokens are known by their hashes. The lock order is:
    the user, then his session."""

    async def create(self, session: OpenSession, token: bytes) -> None: ...

    async def of_token(self, token: bytes) -> OpenSession | None: ...

    async def lock(self, session_id: str) -> OpenSession | None: ...

    async def token(self, token: bytes) -> RefreshToken | None: ...

    async def rotate(
        self, session_id: str, token: bytes, salt: bytes, successor: bytes, now: datetime
    ) -> None: ...

    async def withdraw(self, token: bytes, now: datetime) -> None: ...

    async def end(self, user_id: str, session_id: str, now: datetime) -> bool:
        """Whether it was open."""

    async def end_all(self, user_id: str, now: datetime, *, but: str | None = None) -> int:
        """How many were open."""


class ControlKeys(Protocol):
    """Keys for this API, in a transaction."""

    async def create(self, key: StoredControlKey) -> None: ...

    async def lock(self, organization_id: str, key_id: str) -> StoredControlKey | None: ...

    async def revoke(self, key_id: str, now: datetime) -> None: ...


class Directory(Protocol):
    """Users and keys, read without a lock."""

    async def user(self, organization_id: str, user_id: str) -> StoredUser | None: ...

    async def users(self, organization_id: str, after: str | None, most: int) -> list[StoredUser]: ...

    async def users_of_email(self, email: str, organization_id: str | None) -> list[StoredUser]:
        """Two at most: more than one cannot log in without naming the organization."""

    async def control_keys(
        self, organization_id: str, after: str | None, most: int
    ) -> list[StoredControlKey]: ...


class Attempts(Protocol):
    """Attempts to log in, counted over all replicas."""

    async def take(self, email: str, address: str | None, now: datetime) -> float:
        """Counts one; the seconds to wait when there were too many already, else 0."""

    async def give_back(self, email: str, address: str | None) -> None:
        """One succeeded."""


class Passwords(Protocol):
    """Hashes of passwords, some at a time. Raises Unavailable when too many wait."""

    async def hash(self, password: str) -> str: ...

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Takes as long without a hash to compare with."""

    def is_outdated(self, password_hash: str) -> bool:
        """Whether it should be hashed anew."""
