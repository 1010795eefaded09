"""Keys for this API itself, and the one body that makes keys of every kind."""

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec

from control_api.domain.campaign import Moment, ShortText
from control_api.domain.keys import HINT_LENGTH, KeyRequest, Origin, Rate
from control_api.domain.permissions import Permission
from control_api.domain.refusals import FieldError
from control_api.domain.texts import check_text
from schemas.access_keys import KeyKind
from schemas.reasons import Scope

PREFIX = "ck_"
_DOOR_SCOPES = frozenset(scope.value for scope in Scope)
_PERMISSIONS = frozenset(permission.value for permission in Permission)


class ApiKeyKind(StrEnum):
    """Publishable and server keys open the door; a control key opens this API."""

    PUBLISHABLE = "publishable"
    SERVER = "server"
    CONTROL = "control"


class KeyScope(StrEnum):
    """What a key may do: at the door, or in this API (as `permissions.Permission`)."""

    EVENTS_WRITE = "events:write"
    EVENTS_COST = "events:cost"
    EVENTS_BACKFILL = "events:backfill"
    CAMPAIGNS_READ = "campaigns:read"
    CAMPAIGNS_WRITE = "campaigns:write"
    CAMPAIGNS_RUN = "campaigns:run"
    APPROVALS_DECIDE = "approvals:decide"
    EVENTS_TRACK = "events:track"
    ORGANIZATION_READ = "organization:read"
    ORGANIZATION_WRITE = "organization:write"
    USERS_MANAGE = "users:manage"
    KEYS_MANAGE = "keys:manage"
    AUDIT_READ = "audit:read"
    WEBHOOKS_MANAGE = "webhooks:manage"


class ApiKeyRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The body that makes a key. Scopes are those of its kind; a key for the door has `events:write` when
    none is named, a control key must name its own."""

    name: ShortText
    kind: ApiKeyKind
    scopes: Annotated[tuple[KeyScope, ...], msgspec.Meta(max_length=len(KeyScope))] = ()
    allowed_origins: Annotated[tuple[Origin, ...], msgspec.Meta(max_length=100)] = ()
    events_per_second: Rate | None = None
    burst: Rate | None = None
    expires_at: Moment | None = None


class StoredControlKey(msgspec.Struct, frozen=True, kw_only=True):
    """A control key as it is kept: by its hash."""

    id: str
    organization_id: str
    name: str
    key_hash: str
    hint: str
    scopes: tuple[Permission, ...]
    created_by: str
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None


def check_control_key(asked: ApiKeyRequest, now: datetime) -> Iterator[FieldError]:
    """What is wrong with a request for a control key."""
    yield from check_text(asked.name, "/name")
    if not asked.scopes:
        yield FieldError("/scopes", "name what the key may do")
    for index, scope in enumerate(asked.scopes):
        if scope.value not in _PERMISSIONS:
            yield FieldError(f"/scopes/{index}", f"{scope} is of keys for the door")
    for name in ("allowed_origins", "events_per_second", "burst"):
        if getattr(asked, name):
            pointer = msgspec.structs.fields(ApiKeyRequest)
            encoded = next(field.encode_name for field in pointer if field.name == name)
            yield FieldError(f"/{encoded}", "is of keys for the door")
    if asked.expires_at is not None and asked.expires_at <= now:
        yield FieldError("/expiresAt", "must be in the future")


def check_door_scopes(asked: ApiKeyRequest) -> Iterator[FieldError]:
    """Scopes that no key for the door has."""
    for index, scope in enumerate(asked.scopes):
        if scope.value not in _DOOR_SCOPES:
            yield FieldError(f"/scopes/{index}", f"{scope} is of control keys")


def door_request(asked: ApiKeyRequest) -> KeyRequest:
    """The request for a key of the door; `check_door_scopes` has found nothing."""
    return KeyRequest(
        name=asked.name,
        kind=KeyKind(asked.kind.value),
        scopes=tuple(Scope(scope.value) for scope in asked.scopes) or (Scope.WRITE,),
        allowed_origins=asked.allowed_origins,
        events_per_second=asked.events_per_second,
        burst=asked.burst,
        expires_at=asked.expires_at,
    )


def permissions_asked(asked: ApiKeyRequest) -> tuple[Permission, ...]:
    """The scopes of a control key, each once; `check_control_key` has found nothing."""
    return tuple(dict.fromkeys(Permission(scope.value) for scope in asked.scopes))


def hint_of(clear: str) -> str:
    """How a key begins."""
    return clear[:HINT_LENGTH]
