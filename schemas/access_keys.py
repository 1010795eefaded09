"""`access-keys`: the compacted snapshot of the keys that a door accepts, by the SHA-256 of the key."""

import hashlib
from enum import StrEnum

import msgspec

from schemas.reasons import Scope

TOPIC = "access-keys"


class KeyKind(StrEnum):
    """A publishable key stands in web pages and apps; a server key is a secret."""

    PUBLISHABLE = "publishable"
    SERVER = "server"


class KeyLimits(msgspec.Struct, frozen=True, rename="camel"):
    """Events per second that a key may send, and its burst; None for no limit of its own."""

    events_per_second: int | None = None
    burst: int | None = None


class AccessKey(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One version of a key. A revoked key stays as a value (tombstoned 30 days later)."""

    key_hash: str
    version: int
    key_id: str
    organization_id: str
    kind: KeyKind
    scopes: tuple[Scope, ...] = (Scope.WRITE,)
    allowed_origins: tuple[str, ...] = ()
    """Origins of browsers that may use the key; empty for any."""
    limits: KeyLimits = KeyLimits()
    expires_at: int | None = None
    revoked: bool = False


def hash_key(key: str) -> str:
    """The key's SHA-256 in hex: keys carry 256 random bits, so a slow hash would protect nothing more."""
    return hashlib.sha256(key.encode()).hexdigest()
