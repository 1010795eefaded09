"""What the API shows of users, sessions, keys and the audit log."""

from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType

from control_api.domain.audit import ChainedEntry
from control_api.domain.control_keys import ApiKeyKind, KeyScope, StoredControlKey
from control_api.domain.keys import StoredKey
from control_api.domain.users import StoredUser
from control_api.handlers.sessions import LoggedIn


class UserView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A user. `hasPassword`: it can log in here, not only at the outside issuer."""

    id: str
    email: str
    name: str
    roles: tuple[str, ...]
    active: bool
    has_password: bool
    created_at: datetime
    updated_at: datetime
    version: int


class UsersView(msgspec.Struct, frozen=True, rename="camel"):
    """One page of users; `nextCursor` is null on the last one."""

    items: list[UserView]
    next_cursor: str | None


class TokensView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The tokens of a session. The access token lasts `expiresIn` seconds; the refresh token gives new ones,
    once, until `sessionExpiresAt`."""

    access_token: str
    token_type: str = "Bearer"  # noqa: S105  RFC 6750's name of the scheme
    expires_in: int
    refresh_token: str
    session_expires_at: datetime
    user: UserView


class ApiKeyView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A key, without its text; `hint` is how it begins. `lastUsedAt` is of control keys, to some minutes."""

    id: str
    name: str
    kind: ApiKeyKind
    hint: str
    scopes: tuple[KeyScope, ...]
    allowed_origins: tuple[str, ...] = ()
    events_per_second: int | None = None
    burst: int | None = None
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = None
    revoked_at: datetime | None


class MadeApiKeyView(ApiKeyView, frozen=True, kw_only=True):
    """A new key; `key` is shown this once."""

    key: str


class ApiKeysView(msgspec.Struct, frozen=True, rename="camel"):
    """A page of an organization's keys, in the order of their making."""

    items: list[ApiKeyView]
    next_cursor: str | None


class AuditView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One thing that was done: by whom (`actor` is a user's id, `key:ID`, or a part of the system), from
    where (a keyed hash of the address), what it was before and after. `hash` covers the entry and the one
    before."""

    seq: int
    at: datetime
    actor: str
    action: str
    subject_type: str
    subject_id: str
    reason: str | None
    correlation_id: str | None
    address: str | None
    before: msgspec.Raw | None
    after: msgspec.Raw | None
    hash: str


class AuditPageView(msgspec.Struct, frozen=True, rename="camel"):
    """One page, newest first; `nextCursor` is null on the last one."""

    items: list[AuditView]
    next_cursor: str | None


class MeView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Who the token or the key speaks for, and what it may. A key has the id of who made it, and its own."""

    id: str
    organization_id: str
    roles: tuple[str, ...]
    permissions: tuple[str, ...]
    email: str | None
    name: str | None
    key_id: str | UnsetType = UNSET


def user_view(user: StoredUser) -> UserView:
    """A user without the hash of its password."""
    return UserView(
        id=user.id,
        email=user.email,
        name=user.name,
        roles=user.roles,
        active=user.active,
        has_password=user.password_hash is not None,
        created_at=user.created_at,
        updated_at=user.updated_at,
        version=user.version,
    )


def tokens_view(given: LoggedIn) -> TokensView:
    """New tokens."""
    return TokensView(
        access_token=given.access_token,
        expires_in=given.expires_in,
        refresh_token=given.refresh_token,
        session_expires_at=given.session.expires_at,
        user=user_view(given.user),
    )


def door_key_view(key: StoredKey) -> ApiKeyView:
    """A key of the door."""
    return ApiKeyView(
        id=key.id,
        name=key.name,
        kind=ApiKeyKind(key.kind.value),
        hint=key.hint,
        scopes=tuple(KeyScope(scope.value) for scope in key.scopes),
        allowed_origins=key.allowed_origins,
        events_per_second=key.events_per_second,
        burst=key.burst,
        created_by=key.created_by,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
    )


def control_key_view(key: StoredControlKey) -> ApiKeyView:
    """A key for this API."""
    return ApiKeyView(
        id=key.id,
        name=key.name,
        kind=ApiKeyKind.CONTROL,
        hint=key.hint,
        scopes=tuple(KeyScope(scope.value) for scope in key.scopes),
        created_by=key.created_by,
        created_at=key.created_at,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
        revoked_at=key.revoked_at,
    )


def made_view(view: ApiKeyView, clear: str) -> MadeApiKeyView:
    """A new key with its text."""
    return MadeApiKeyView(**{name: getattr(view, name) for name in ApiKeyView.__struct_fields__}, key=clear)


def audit_view(row: ChainedEntry) -> AuditView:
    """An entry at its place."""
    entry = row.entry
    return AuditView(
        seq=row.seq,
        at=entry.at,
        actor=entry.actor,
        action=entry.action,
        subject_type=entry.subject_type,
        subject_id=entry.subject_id,
        reason=entry.reason,
        correlation_id=entry.correlation_id,
        address=entry.address,
        before=_json(entry.before),
        after=_json(entry.after),
        hash=row.hash.hex(),
    )


def _json(text: str | None) -> msgspec.Raw | None:
    return None if text is None else msgspec.Raw(text.encode())
