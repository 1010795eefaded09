"""Access keys: what a client asks for, and what is kept."""

from collections.abc import Iterator
from datetime import datetime
from ipaddress import IPv6Address
from typing import Annotated

import msgspec

from control_api.domain.campaign import Moment, ShortText
from control_api.domain.refusals import FieldError
from control_api.domain.snapshot import millis
from control_api.domain.texts import check_text
from schemas.access_keys import AccessKey, KeyKind, KeyLimits
from schemas.patterns import END
from schemas.reasons import Scope

PREFIXES = {KeyKind.PUBLISHABLE: "pk_", KeyKind.SERVER: "sk_"}
HINT_LENGTH = 8
Rate = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
_HOST = r"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])"
Origin = Annotated[str, msgspec.Meta(pattern=rf"^https?://{_HOST}(:[0-9]{{1,5}})?{END}")]


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The body that makes an access key."""

    name: ShortText
    kind: KeyKind
    scopes: Annotated[tuple[Scope, ...], msgspec.Meta(min_length=1, max_length=10)] = (Scope.WRITE,)
    allowed_origins: Annotated[tuple[Origin, ...], msgspec.Meta(max_length=100)] = ()
    events_per_second: Rate | None = None
    burst: Rate | None = None
    expires_at: Moment | None = None


class StoredKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is kept: by its hash. `hint` is its beginning, to tell keys apart."""

    id: str
    organization_id: str
    name: str
    key_hash: str
    hint: str
    kind: KeyKind
    scopes: tuple[Scope, ...]
    allowed_origins: tuple[str, ...] = ()
    events_per_second: int | None = None
    burst: int | None = None
    created_by: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    version: int = 1


def check_key(request: KeyRequest, now: datetime) -> Iterator[FieldError]:
    """What is wrong with a request: a publishable key is public, so it may only report what visitors do."""
    yield from check_text(request.name, "/name")
    if request.kind is KeyKind.PUBLISHABLE and set(request.scopes) - {Scope.WRITE}:
        yield FieldError("/scopes", "a publishable key can only have the scope events:write")
    for index, origin in enumerate(request.allowed_origins):
        if not _names_a_host(origin):
            yield FieldError(f"/allowedOrigins/{index}", "the brackets hold no IPv6 address")
    if request.expires_at is not None and request.expires_at <= now:
        yield FieldError("/expiresAt", "must be in the future")


def _names_a_host(origin: str) -> bool:
    _, bracketed, rest = origin.partition("[")
    try:
        return not bracketed or IPv6Address(rest.partition("]")[0]) is not None
    except ValueError:
        return False


def as_browsers_send(origin: str) -> str:
    """The Origin that a browser's page there sends: in lower case, without the scheme's own port."""
    lower = origin.lower()
    scheme = lower.partition(":")[0]
    return lower.removesuffix(":443" if scheme == "https" else ":80")


def snapshot_of(key: StoredKey) -> AccessKey:
    """What the doors know of a key."""
    return AccessKey(
        key_hash=key.key_hash,
        version=key.version,
        key_id=key.id,
        organization_id=key.organization_id,
        kind=key.kind,
        scopes=key.scopes,
        allowed_origins=key.allowed_origins,
        limits=KeyLimits(key.events_per_second, key.burst),
        expires_at=millis(key.expires_at) if key.expires_at else None,
        revoked=key.revoked_at is not None,
    )
