"""Access keys: made, listed, revoked; each change reaches the doors through the outbox."""

import secrets
from datetime import datetime

import msgspec

from control_api.domain.audit import entry_of
from control_api.domain.control_keys import StoredControlKey
from control_api.domain.keys import (
    HINT_LENGTH,
    PREFIXES,
    KeyRequest,
    StoredKey,
    as_browsers_send,
    check_key,
    snapshot_of,
)
from control_api.domain.permissions import Permission
from control_api.errors import InvalidRequest, NotFound, Unauthorized
from control_api.handlers.access_ports import Directory
from control_api.handlers.actor import Actor
from control_api.handlers.listing import read_cursor, write_cursor
from control_api.handlers.ports import Store, Unit
from schemas import access_keys
from schemas.access_keys import KeyKind, hash_key
from schemas.ids import new_id

_SECRET_BYTES = 32


_ORDER = "key"


class KeyPage(msgspec.Struct, frozen=True):
    """One page of keys of all kinds in the order of their making, and where the next one begins."""

    items: list[StoredKey | StoredControlKey]
    next_cursor: str | None


class MadeKey(msgspec.Struct, frozen=True):
    """A new key; `clear` is its text, which nobody can see again."""

    key: StoredKey
    clear: str


async def make(store: Store, actor: Actor, asked: KeyRequest, now: datetime) -> MadeKey:
    """A new key. Raises InvalidRequest, and Forbidden: who may report no events makes no key that can."""
    actor.require(Permission.EVENTS_TRACK)
    errors = tuple(check_key(asked, now))

    async def work(unit: Unit) -> MadeKey:
        if errors:  # here, for an end that a repeated request names may be over by now
            raise InvalidRequest(errors)
        clear = PREFIXES[asked.kind] + secrets.token_urlsafe(_SECRET_BYTES)
        key = stored_key(clear, asked, actor, now)
        if await unit.organization(actor.organization_id) is None:
            raise Unauthorized("the token names an organization that does not exist")
        await unit.create_key(key)
        await publish_key(unit, key)
        await _audit(unit, actor, "key.made", key, now)
        return MadeKey(key, clear)

    return await store.in_transaction(work)


async def list_page(
    store: Store, directory: Directory, actor: Actor, cursor: str | None, limit: int
) -> KeyPage:
    """A page of all keys, revoked ones too. Raises MalformedRequest for a cursor of another list."""
    after = read_cursor(cursor, _ORDER)[1] if cursor else None
    of_doors = await store.keys(actor.organization_id, after, limit + 1)
    own = await directory.control_keys(actor.organization_id, after, limit + 1)
    both: list[StoredKey | StoredControlKey] = [*of_doors, *own]
    found = sorted(both, key=lambda key: key.id)
    shown = found[:limit]
    following = write_cursor(_ORDER, "", shown[-1].id) if len(found) > limit else None
    return KeyPage(shown, following)


async def revoke(store: Store, actor: Actor, key_id: str, now: datetime) -> StoredKey:
    """Revokes a key; one that is revoked already stays so. Raises NotFound."""

    async def work(unit: Unit) -> StoredKey:
        key = await unit.lock_key(actor.organization_id, key_id)
        if key is None:
            raise NotFound("there is no such key")
        if key.revoked_at is not None:
            return key
        revoked = msgspec.structs.replace(key, revoked_at=now, version=key.version + 1)
        await unit.revoke_key(key_id, now)
        await publish_key(unit, revoked)
        await _audit(unit, actor, "key.revoked", revoked, now)
        return revoked

    return await store.in_transaction(work)


async def publish_key(unit: Unit, key: StoredKey) -> int:
    """Puts the key's snapshot into the outbox."""
    return await unit.add_to_outbox(access_keys.TOPIC, key.key_hash, msgspec.json.encode(snapshot_of(key)))


async def _audit(unit: Unit, actor: Actor, action: str, key: StoredKey, now: datetime) -> None:
    told = {"name": key.name, "kind": key.kind, "hint": key.hint, "scopes": key.scopes}
    entry = entry_of(actor.cause(), now, actor.organization_id, action, ("key", key.id), after=told)
    await unit.audit(entry)


def stored_key(clear: str, asked: KeyRequest, actor: Actor, now: datetime) -> StoredKey:
    """A key as it is kept."""
    return StoredKey(
        id=new_id(),
        organization_id=actor.organization_id,
        name=asked.name,
        key_hash=hash_key(clear),
        hint=clear[:HINT_LENGTH],
        kind=KeyKind(asked.kind),
        scopes=asked.scopes,
        allowed_origins=tuple(dict.fromkeys(map(as_browsers_send, asked.allowed_origins))),
        events_per_second=asked.events_per_second,
        burst=asked.burst,
        created_by=actor.user_id,
        created_at=now,
        expires_at=asked.expires_at,
    )
