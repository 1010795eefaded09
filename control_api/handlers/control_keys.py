"""Keys for this API: made, revoked. They are beside the keys of the doors, who are told nothing of them."""

import secrets
from datetime import datetime

import msgspec

from control_api.domain.audit import entry_of
from control_api.domain.control_keys import (
    PREFIX,
    ApiKeyRequest,
    StoredControlKey,
    check_control_key,
    hint_of,
    permissions_asked,
)
from control_api.domain.refusals import FieldError
from control_api.errors import Forbidden, InvalidRequest, NotFound, Unauthorized
from control_api.handlers.actor import Actor
from control_api.handlers.ports import Store, Unit
from schemas.access_keys import hash_key
from schemas.ids import new_id

_SECRET_BYTES = 32
"""So many random bits need no slow hash."""


class MadeControlKey(msgspec.Struct, frozen=True):
    """A new key; `clear` is its text, which nobody can see again."""

    key: StoredControlKey
    clear: str


async def make(store: Store, actor: Actor, asked: ApiKeyRequest, now: datetime) -> MadeControlKey:
    """A new key. Raises InvalidRequest, and Forbidden for a scope that its maker does not have."""
    errors = tuple(check_control_key(asked, now))
    scopes = () if errors else permissions_asked(asked)
    if more := sorted(set(scopes) - actor.permissions):
        raise Forbidden(f"a key may not more than who makes it: {', '.join(more)}")

    async def work(unit: Unit) -> MadeControlKey:
        if errors:  # here, for an end that a repeated request names may be over by now
            raise InvalidRequest(errors)
        clear = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        key = StoredControlKey(
            id=new_id(),
            organization_id=actor.organization_id,
            name=asked.name,
            key_hash=hash_key(clear),
            hint=hint_of(clear),
            scopes=scopes,
            created_by=actor.user_id,
            created_at=now,
            expires_at=asked.expires_at,
        )
        if await unit.organization(actor.organization_id) is None:
            raise Unauthorized("the token names an organization that does not exist")
        if asked.expires_at is None and await unit.users.get(actor.organization_id, actor.user_id) is None:
            # Whoever comes from an outside issuer has no account here with which his keys would end.
            raise InvalidRequest([FieldError("/expiresAt", "is needed, for you have no account here")])
        await unit.control_keys.create(key)
        await _audit(unit, actor, "key.made", key, now)
        return MadeControlKey(key, clear)

    return await store.in_transaction(work)


async def revoke(store: Store, actor: Actor, key_id: str, now: datetime) -> StoredControlKey:
    """Revokes a key; one that is revoked already stays so. Raises NotFound."""

    async def work(unit: Unit) -> StoredControlKey:
        key = await unit.control_keys.lock(actor.organization_id, key_id)
        if key is None:
            raise NotFound("there is no such key")
        if key.revoked_at is not None:
            return key
        await unit.control_keys.revoke(key_id, now)
        await _audit(unit, actor, "key.revoked", key, now)
        return msgspec.structs.replace(key, revoked_at=now)

    return await store.in_transaction(work)


async def _audit(unit: Unit, actor: Actor, action: str, key: StoredControlKey, now: datetime) -> None:
    told = {"name": key.name, "kind": "control", "hint": key.hint, "scopes": key.scopes}
    entry = entry_of(actor.cause(), now, actor.organization_id, action, ("key", key.id), after=told)
    await unit.audit(entry)
