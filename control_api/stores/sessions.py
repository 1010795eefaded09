"""Logins and their refresh tokens."""

from datetime import datetime

import asyncpg

from control_api.domain.sessions import RefreshToken
from control_api.handlers.access_ports import OpenSession
from sql.load import postgres_queries

_sessions = postgres_queries("control_sessions")


class PostgresSessions:
    """In one transaction; implements handlers.access_ports.Sessions."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def create(self, session: OpenSession, token: bytes) -> None:
        await _sessions.create_session(
            self._connection,
            id=session.id,
            organization_id=session.organization_id,
            user_id=session.user_id,
            now=session.created_at,
            expires_at=session.expires_at,
        )
        await _sessions.add_refresh_token(self._connection, hash=token, session_id=session.id)

    async def of_token(self, token: bytes) -> OpenSession | None:
        row = await _sessions.session_of(self._connection, hash=token)
        return _session_from(row) if row else None

    async def lock(self, session_id: str) -> OpenSession | None:
        row = await _sessions.lock_session(self._connection, id=session_id)
        return _session_from(row) if row else None

    async def token(self, token: bytes) -> RefreshToken | None:
        row = await _sessions.get_refresh_token(self._connection, hash=token)
        return RefreshToken(**dict(row)) if row else None

    async def rotate(
        self, session_id: str, token: bytes, salt: bytes, successor: bytes, now: datetime
    ) -> None:
        await _sessions.add_refresh_token(self._connection, hash=successor, session_id=session_id)
        await _sessions.use_refresh_token(
            self._connection, hash=token, salt=salt, successor=successor, now=now
        )

    async def withdraw(self, token: bytes, now: datetime) -> None:
        await _sessions.withdraw_refresh_token(self._connection, hash=token, now=now)

    async def end(self, user_id: str, session_id: str, now: datetime) -> bool:
        status: str = await _sessions.end_session(self._connection, id=session_id, user_id=user_id, now=now)
        return status.endswith(" 1")

    async def end_all(self, user_id: str, now: datetime, *, but: str | None = None) -> int:
        status: str = await _sessions.end_sessions(self._connection, user_id=user_id, now=now, but=but)
        return int(status.rpartition(" ")[2])


def _session_from(row: asyncpg.Record) -> OpenSession:
    return OpenSession(
        id=str(row["id"]),
        organization_id=str(row["organization_id"]),
        user_id=str(row["user_id"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        ended_at=row["ended_at"],
    )
