"""Users of the caller's organization: made, listed, changed, deactivated. None is ever removed: what he did
names him."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET

from control_api.domain.audit import entry_of
from control_api.domain.permissions import Role
from control_api.domain.refusals import FieldError
from control_api.domain.texts import check_text
from control_api.domain.users import StoredUser, UserReplacement, UserRequest, beyond, check_password
from control_api.errors import (
    EmailTaken,
    Forbidden,
    InvalidRequest,
    LastAdmin,
    NotFound,
    PreconditionFailed,
    Unauthorized,
)
from control_api.handlers.access_ports import Directory, Passwords
from control_api.handlers.actor import Actor
from control_api.handlers.listing import read_cursor, write_cursor
from control_api.handlers.ports import Store, Unit
from schemas.ids import new_id

_ORDER = "user"


class UserPage(msgspec.Struct, frozen=True):
    """One page of users in the order of their making, and where the next one begins."""

    items: list[StoredUser]
    next_cursor: str | None


async def make(
    store: Store, passwords: Passwords, actor: Actor, asked: UserRequest, now: datetime
) -> StoredUser:
    """A new user. Raises InvalidRequest, Forbidden, EmailTaken."""
    _require_within(actor, asked.roles)
    errors = list(check_text(asked.name, "/name"))
    if asked.password is not None:
        errors.extend(check_password(asked.password, asked.email, "/password"))
    _refuse(errors)
    password_hash = await passwords.hash(asked.password) if asked.password is not None else None

    async def work(unit: Unit) -> StoredUser:
        user = StoredUser(
            id=new_id(),
            organization_id=actor.organization_id,
            email=asked.email,
            name=asked.name,
            roles=_ordered(asked.roles),
            password_hash=password_hash,
            created_at=now,
            updated_at=now,
        )
        if not await unit.users.lock_all(actor.organization_id):
            raise Unauthorized("the token names an organization that does not exist")
        if await unit.users.email_is_taken(actor.organization_id, asked.email):
            raise EmailTaken("another user of the organization has this email address")
        await unit.users.create(user)
        await _audit(unit, actor, "user.created", user, now, after=_told(user))
        return user

    return await store.in_transaction(work)


async def get(directory: Directory, actor: Actor, user_id: str) -> StoredUser:
    """A user of the actor's organization. Raises NotFound."""
    user = await directory.user(actor.organization_id, user_id)
    if user is None:
        raise NotFound("there is no such user")
    return user


async def list_page(directory: Directory, actor: Actor, cursor: str | None, limit: int) -> UserPage:
    """A page of all users, deactivated ones too. Raises MalformedRequest for a cursor of another list."""
    after = read_cursor(cursor, _ORDER)[1] if cursor else None
    users = await directory.users(actor.organization_id, after, limit + 1)
    shown = users[:limit]
    following = write_cursor(_ORDER, "", shown[-1].id) if len(users) > limit else None
    return UserPage(shown, following)


async def replace(
    store: Store,
    passwords: Passwords,
    actor: Actor,
    user_id: str,
    asked: UserReplacement,
    if_match: int,
    now: datetime,
) -> StoredUser:
    """Changes name, roles, activity and, when one is given, the password. What the user was logged in with
    ends when anything but its name changes. Raises LastAdmin."""
    errors = list(check_text(asked.name, "/name"))
    if asked.password is not UNSET:
        errors.extend(check_password(asked.password, "", "/password"))
    _refuse(errors)
    new_hash = None if asked.password is UNSET else await passwords.hash(asked.password)

    async def work(unit: Unit) -> StoredUser:
        before = await _lock(unit, actor, user_id, if_match)
        _require_within(actor, asked.roles)
        after = msgspec.structs.replace(
            before,
            name=asked.name,
            roles=_ordered(asked.roles),
            deactivated_at=None if asked.active else before.deactivated_at or now,
            password_hash=new_hash or before.password_hash,
        )
        return await _save(unit, actor, before, after, now)

    return await store.in_transaction(work)


async def deactivate(
    store: Store, actor: Actor, user_id: str, if_match: int | None, now: datetime
) -> StoredUser:
    """The user may do nothing any more; one that is deactivated already stays so. Raises LastAdmin."""

    async def work(unit: Unit) -> StoredUser:
        before = await _lock(unit, actor, user_id, if_match)
        if not before.active:
            return before
        return await _save(unit, actor, before, msgspec.structs.replace(before, deactivated_at=now), now)

    return await store.in_transaction(work)


async def _lock(unit: Unit, actor: Actor, user_id: str, if_match: int | None) -> StoredUser:
    await unit.users.lock_all(actor.organization_id)
    user = await unit.users.get(actor.organization_id, user_id)
    if user is None:
        raise NotFound("there is no such user")
    if if_match is not None and if_match != user.version:
        raise PreconditionFailed(user.version)
    _require_within(actor, user.roles)
    return user


async def _save(unit: Unit, actor: Actor, before: StoredUser, after: StoredUser, now: datetime) -> StoredUser:
    user = msgspec.structs.replace(after, version=before.version + 1, updated_at=now)
    if before.is_admin and not user.is_admin and not await unit.users.other_admins(user):
        raise LastAdmin("the organization would be left without an active admin")
    await unit.users.update(user)
    old, new = _told(before), _told(user)
    changed = [name for name in new if new[name] != old[name]]
    if user.password_hash != before.password_hash:
        changed.append("password")
    if set(changed) - {"name"}:
        await unit.sessions.end_all(user.id, now)
    action = "user.deactivated" if before.active and not user.active else "user.updated"
    told = {
        "before": {name: old.get(name) for name in changed if name != "password"},
        "after": {name: new.get(name, "changed") for name in changed},
    }
    await _audit(unit, actor, action, user, now, **told)
    return user


async def _audit(
    unit: Unit, actor: Actor, action: str, user: StoredUser, now: datetime, **told: dict[str, Any]
) -> None:
    subject = ("user", user.id)
    await unit.audit(entry_of(actor.cause(), now, user.organization_id, action, subject, **told))


def _told(user: StoredUser) -> dict[str, Any]:
    return {"email": user.email, "name": user.name, "roles": user.roles, "active": user.active}


def _require_within(actor: Actor, roles: Iterable[str]) -> None:
    """Nobody gives a role, or changes somebody, that may more than himself. Raises Forbidden."""
    if more := sorted(beyond(actor.permissions, roles)):
        raise Forbidden(f"these roles may more than you: {', '.join(more)}")


def _refuse(errors: Sequence[FieldError]) -> None:
    if errors:
        raise InvalidRequest(errors)


def _ordered(roles: Iterable[Role]) -> tuple[str, ...]:
    """Each role once, in the order of the table."""
    given = set(roles)
    return tuple(role.value for role in Role if role in given)
