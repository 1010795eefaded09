"""Login with email and password, and its change. No answer tells whether an email is known."""

import asyncio
from datetime import datetime, timedelta
from typing import Annotated

import msgspec

from control_api.domain.audit import entry_of
from control_api.domain.refusals import FieldError
from control_api.domain.snapshot import Cause
from control_api.domain.users import Password, StoredUser, check_password
from control_api.errors import (
    Forbidden,
    InvalidRequest,
    TooManyRequests,
    Unauthorized,
)
from control_api.handlers.access_ports import Attempts, Directory, Passwords
from control_api.handlers.actor import Actor
from control_api.handlers.ports import Store, Unit
from control_api.handlers.sessions import LoggedIn, Signer, open_session
from schemas.ids import canonical_uuid

_WRONG = "email, password or organization is wrong; an email of several organizations needs `organization`"
_REFUSED_AFTER = timedelta(milliseconds=250)
"""A refusal takes as long whatever was wrong: what is written of a known email takes its time too."""
NOBODY = "anonymous"


class LoginRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The body of a login; `organization` is an id, needed when several know the email."""

    email: Annotated[str, msgspec.Meta(min_length=1, max_length=254)]
    password: Password
    organization: Annotated[str, msgspec.Meta(max_length=36)] | None = None


class PasswordChange(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The body that changes one's own password."""

    current_password: Password
    new_password: Password


class Gate(msgspec.Struct, frozen=True):
    """What a login goes through. `store` is not the request's own: what it writes of failures is not what a
    repeated request must find."""

    store: Store
    directory: Directory
    passwords: Passwords
    attempts: Attempts
    signer: Signer


async def log_in(store: Store, gate: Gate, asked: LoginRequest, told: Cause, now: datetime) -> LoggedIn:
    """A new session. Raises Unauthorized, TooManyRequests, Unavailable.

    An attempt is counted before the password is looked at, so that many at once are no more than many.
    """
    began = asyncio.get_running_loop().time()
    await _count(gate.attempts, asked.email, told.address, now)
    user = await _candidate(gate.directory, asked)
    right = await gate.passwords.verify(user.password_hash if user else None, asked.password)
    if user is None or not right or not user.active:
        if user is not None:
            await _audit_failure(gate.store, user, told, now)
        await _until(began + _REFUSED_AFTER.total_seconds())
        raise Unauthorized(_WRONG)
    rehashed = None
    if user.password_hash is not None and gate.passwords.is_outdated(user.password_hash):
        rehashed = await gate.passwords.hash(asked.password)
    known = user

    async def work(unit: Unit) -> LoggedIn:
        held = await unit.users.hold(known.organization_id, known.id)
        if held is None or not held.active or held.password_hash != known.password_hash:
            raise Unauthorized(_WRONG)  # changed while its password was checked
        if rehashed is not None:
            await unit.users.rehash(held, rehashed)
        return await open_session(unit, gate.signer, held, told, now)

    logged_in = await store.in_transaction(work)
    await gate.attempts.give_back(asked.email, told.address)
    return logged_in


async def change_password(
    store: Store, gate: Gate, actor: Actor, asked: PasswordChange, now: datetime
) -> StoredUser:
    """A new password for oneself; other sessions end. Raises Forbidden, InvalidRequest, TooManyRequests."""
    user = await gate.directory.user(actor.organization_id, actor.user_id)
    if actor.key_id is not None or user is None or user.password_hash is None:
        raise Forbidden("only who logs in with a password can change it")
    await _count(gate.attempts, user.email, actor.address, now)
    right = await gate.passwords.verify(user.password_hash, asked.current_password)
    if right:
        await gate.attempts.give_back(user.email, actor.address)
    errors = list(check_password(asked.new_password, user.email, "/newPassword"))
    if not right:
        errors = [FieldError("/currentPassword", "is not the current password")]
    password_hash = "" if errors else await gate.passwords.hash(asked.new_password)

    async def work(unit: Unit) -> StoredUser:
        if errors:  # here, for a request that is repeated finds the password changed by itself
            raise InvalidRequest(errors)
        await unit.users.lock_all(actor.organization_id)
        held = await unit.users.get(actor.organization_id, actor.user_id)
        if held is None or not held.active or held.password_hash != user.password_hash:
            raise Forbidden("the user was changed by somebody else")
        changed = msgspec.structs.replace(held, password_hash=password_hash, updated_at=now)
        await unit.users.update(changed)
        await unit.sessions.end_all(held.id, now, but=actor.session_id)
        subject = ("user", held.id)
        await unit.audit(entry_of(actor.cause(), now, held.organization_id, "user.password_changed", subject))
        return changed

    changed = await store.in_transaction(work)
    if not right:
        await gate.attempts.give_back(user.email, actor.address)
    return changed


async def _count(attempts: Attempts, email: str, address: str | None, now: datetime) -> None:
    if wait := await attempts.take(email, address, now):
        raise TooManyRequests("too many attempts to log in", wait)


async def _candidate(directory: Directory, asked: LoginRequest) -> StoredUser | None:
    organization = None
    if asked.organization is not None:
        organization = canonical_uuid(asked.organization)
        if organization is None:
            return None
    found = await directory.users_of_email(asked.email, organization)
    return found[0] if len(found) == 1 else None


async def _audit_failure(store: Store, user: StoredUser, told: Cause, now: datetime) -> None:
    cause = Cause(NOBODY, told.correlation_id, None, told.address, told.traceparent)

    async def work(unit: Unit) -> None:
        subject = ("user", user.id)
        await unit.audit(entry_of(cause, now, user.organization_id, "login.failed", subject))

    await store.in_transaction(work)


async def _until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - asyncio.get_running_loop().time()))
