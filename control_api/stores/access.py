"""What is read of users and keys without a lock: who somebody is, and what was tried."""

import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta

from control_api.auth.standing import KeyStanding, Standing
from control_api.domain.control_keys import StoredControlKey
from control_api.domain.users import StoredUser
from control_api.stores.control_keys import control_key_from
from control_api.stores.pool import Pool
from control_api.stores.users import stored_user_from
from sql.load import postgres_queries

_access = postgres_queries("control_access")
_users = postgres_queries("control_users")
_sessions = postgres_queries("control_sessions")
_FORGOTTEN_AT_ONCE = 1_000


class AccessReads:
    """Implements handlers.access_ports.Directory and auth.standing.Register."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def user(self, organization_id: str, user_id: str) -> StoredUser | None:
        async with self._pool.connection() as connection:
            row = await _users.get_user(connection, id=user_id, organization_id=organization_id)
        return stored_user_from(row) if row else None

    async def users(self, organization_id: str, after: str | None, most: int) -> list[StoredUser]:
        async with self._pool.connection() as connection:
            rows = _users.list_users(connection, organization_id=organization_id, after=after, most=most)
            return [stored_user_from(row) async for row in rows]

    async def users_of_email(self, email: str, organization_id: str | None) -> list[StoredUser]:
        async with self._pool.connection() as connection:
            rows = _users.users_of_email(connection, email=email, organization_id=organization_id)
            return [stored_user_from(row) async for row in rows]

    async def control_keys(
        self, organization_id: str, after: str | None, most: int
    ) -> list[StoredControlKey]:
        async with self._pool.connection() as connection:
            rows = _access.list_control_keys(
                connection, organization_id=organization_id, after=after, most=most
            )
            return [control_key_from(row) async for row in rows]

    async def standing(
        self, organization_id: str, user_id: str, session_id: str | None, now: datetime
    ) -> Standing | None:
        async with self._pool.connection() as connection:
            row = await _access.standing(
                connection,
                organization_id=organization_id,
                user_id=user_id,
                session_id=session_id,
                now=now,
            )
        if row is None:
            return None
        return Standing(row["is_user"], row["active"], tuple(row["roles"]), bool(row["in_session"]))

    async def key_standing(self, key_hash: str) -> KeyStanding | None:
        async with self._pool.connection() as connection:
            row = await _access.control_key_of_hash(connection, key_hash=key_hash)
        if row is None:
            return None
        maker = Standing(row["is_user"], row["active"], tuple(row["roles"]))
        return KeyStanding(control_key_from(row), maker)

    async def keys_were_used(self, used: Mapping[str, datetime]) -> None:
        """Writes when keys were last used."""
        async with self._pool.connection() as connection:
            await _access.keys_were_used(connection, ids=list(used), ats=list(used.values()))

    async def forget(self, before: datetime, used_before: datetime, now: datetime) -> bool:
        """Removes some sessions that ended by then, refresh tokens used by then, windows of attempts that are
        over; whether there may be more."""
        most = _FORGOTTEN_AT_ONCE
        async with self._pool.connection() as connection:
            gone = [
                await _sessions.forget_sessions(connection, before=before, most=most),
                await _sessions.forget_refresh_tokens(connection, before=used_before, most=most),
                await _access.forget_attempts(connection, before=now, most=most),
            ]
        return any(status.endswith(f" {most}") for status in gone)


class LoginAttempts:
    """Implements handlers.access_ports.Attempts. An attempt counts for the account, for the address, and more
    strictly for both together: one address alone locks nobody out of an account that others use."""

    def __init__(self, pool: Pool, secret: str, *, per_account: int, per_address: int) -> None:
        self._pool = pool
        self._secret = secret
        self._per_account = per_account
        self._per_address = per_address

    async def take(self, email: str, address: str | None, now: datetime) -> float:
        both, account, from_there = self._buckets(email, address)
        # What is refused counts in nothing further: else one address would use up the account for all others.
        most = {from_there: self._per_address, both: self._per_account, account: 5 * self._per_account}
        async with self._pool.connection() as connection:
            for bucket, attempts in most.items():
                row = await _access.take_attempt(connection, bucket=bucket, now=now, ends=now + WINDOW)
                if row["attempts"] > attempts:
                    return float((row["window_ends"] - now).total_seconds())
        return 0.0

    async def give_back(self, email: str, address: str | None) -> None:
        both, account, from_there = self._buckets(email, address)
        async with self._pool.connection() as connection:
            await _access.give_attempts_back(connection, forget=[both], less=[account, from_there])

    def _buckets(self, email: str, address: str | None) -> tuple[bytes, bytes, bytes]:
        who = email.lower()
        texts = (f"both {address} {who}", f"account {who}", f"address {address}")
        digests = (hmac.digest(self._secret.encode(), f"login {text}".encode(), "sha256") for text in texts)
        both, account, from_there = digests
        return both, account, from_there


WINDOW = timedelta(minutes=15)
"""In which attempts are counted."""
