"""Sessions: opened by a login, carried on by refresh tokens, ended by a logout or by a theft."""

import secrets
from datetime import datetime
from typing import Annotated, Protocol

import msgspec

from control_api.domain.audit import entry_of
from control_api.domain.sessions import ACCESS_LIFETIME, SESSION_LIFETIME, Verdict, judge
from control_api.domain.snapshot import Cause
from control_api.domain.users import StoredUser
from control_api.errors import Unauthorized
from control_api.handlers.access_ports import OpenSession
from control_api.handlers.actor import Actor
from control_api.handlers.ports import Store, Unit
from schemas.ids import new_id

_TOKEN_BYTES = 32
_SALT_BYTES = 16
_NOT_VALID = "the refresh token is not valid any more: log in again"


class RefreshRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The body of a refresh."""

    refresh_token: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class LogoutRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The body of a logout: this session, or all of the user."""

    all: bool = False


class LoggedIn(msgspec.Struct, frozen=True):
    """What a login or a refresh gives. `session` ends at `expires_at`, however often it is refreshed."""

    user: StoredUser
    session: OpenSession
    access_token: str
    refresh_token: str
    expires_in: int


class Refreshed(msgspec.Struct, frozen=True):
    """What became of a refresh token: new tokens, or none. `stolen_from` is the user whose session ended
    because the token had been used before."""

    tokens: LoggedIn | None = None
    stolen_from: str | None = None


class Signer(Protocol):
    """Makes tokens that only this service can make."""

    def access_token(self, user: StoredUser, session_id: str, now: datetime) -> str: ...

    def successor(self, refresh_token: str, salt: bytes) -> str:
        """The refresh token after this one, always the same for the same salt."""

    def hash(self, refresh_token: str) -> bytes:
        """As it is kept."""


async def open_session(unit: Unit, signer: Signer, user: StoredUser, told: Cause, now: datetime) -> LoggedIn:
    """Opens a session for a user whose password was right, as the last act of a transaction."""
    session = OpenSession(
        id=new_id(),
        organization_id=user.organization_id,
        user_id=user.id,
        created_at=now,
        expires_at=now + SESSION_LIFETIME,
    )
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    await unit.sessions.create(session, signer.hash(token))
    cause = Cause(user.id, told.correlation_id, None, told.address, told.traceparent)
    await _audit(unit, "login", cause, session, now)
    return _logged_in(signer, user, session, token, now)


async def refresh(
    store: Store, signer: Signer, asked: RefreshRequest, told: Cause, now: datetime
) -> LoggedIn:
    """New tokens for a refresh token. Raises Unauthorized; a token that is used twice ends its session."""

    async def work(unit: Unit) -> Refreshed:
        return await _refresh(unit, signer, asked.refresh_token, told, now)

    refreshed = await store.in_transaction(work)
    if refreshed.tokens is None:  # raised only here: that the session has ended must be committed
        raise Unauthorized(_NOT_VALID)
    return refreshed.tokens


async def _refresh(unit: Unit, signer: Signer, clear: str, told: Cause, now: datetime) -> Refreshed:
    presented = signer.hash(clear)
    found = await unit.sessions.of_token(presented)
    user = await unit.users.hold(found.organization_id, found.user_id) if found else None
    session = await unit.sessions.lock(found.id) if found else None
    token = await unit.sessions.token(presented)
    if user is None or not user.active or session is None or token is None:
        return Refreshed()
    if session.ended_at is not None or session.expires_at <= now:
        return Refreshed()
    verdict = judge(token, now)
    if verdict is Verdict.REUSED:
        await unit.sessions.end(user.id, session.id, now)
        cause = Cause("flightline:sessions", told.correlation_id, "reused", told.address, told.traceparent)
        await _audit(unit, "session.stolen", cause, session, now)
        return Refreshed(stolen_from=user.id)
    if verdict is Verdict.SAME_AGAIN and token.salt is not None:
        successor = signer.successor(clear, token.salt)
        return Refreshed(_logged_in(signer, user, session, successor, now))
    if verdict is Verdict.ANEW and token.successor is not None:
        await unit.sessions.withdraw(token.successor, now)
    salt = secrets.token_bytes(_SALT_BYTES)
    successor = signer.successor(clear, salt)
    await unit.sessions.rotate(session.id, presented, salt, signer.hash(successor), now)
    return Refreshed(_logged_in(signer, user, session, successor, now))


async def log_out(store: Store, actor: Actor, asked: LogoutRequest, now: datetime) -> int:
    """Ends the session of the token, or all of the user; how many were open. A key, and a token that did not
    come from a login, have none to end."""

    async def work(unit: Unit) -> int:
        if actor.key_id is not None:
            return 0
        if asked.all:
            ended = await unit.sessions.end_all(actor.user_id, now)
        elif actor.session_id is not None:
            ended = int(await unit.sessions.end(actor.user_id, actor.session_id, now))
        else:
            ended = 0
        if ended:
            subject = ("user", actor.user_id)
            entry = entry_of(
                actor.cause(), now, actor.organization_id, "logout", subject, after={"sessions": ended}
            )
            await unit.audit(entry)
        return ended

    return await store.in_transaction(work)


def _logged_in(signer: Signer, user: StoredUser, session: OpenSession, token: str, now: datetime) -> LoggedIn:
    access = signer.access_token(user, session.id, now)
    return LoggedIn(user, session, access, token, int(ACCESS_LIFETIME.total_seconds()))


async def _audit(unit: Unit, action: str, cause: Cause, session: OpenSession, now: datetime) -> None:
    subject = ("user", session.user_id)
    told = {"session": session.id}
    await unit.audit(entry_of(cause, now, session.organization_id, action, subject, after=told))
