"""Who is asking: a token of ours, a token of an outside issuer, or a key. One at a time."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from joserfc.errors import JoseError
from joserfc.jws import extract_compact

from control_api.auth.outside import OutsideTokens
from control_api.auth.standing import Standing, Standings, is_over
from control_api.auth.tokens import Claims, Tokens
from control_api.auth.used_keys import UsedKeys
from control_api.domain.control_keys import PREFIX
from control_api.domain.permissions import of_roles
from control_api.errors import MalformedRequest, Unauthorized
from control_api.handlers.actor import Actor
from schemas.access_keys import hash_key

_SCHEME = "bearer"
_LONGEST = 8_192
_ENDED = "the session has ended or the user was changed: log in again"


class Credentials(msgspec.Struct, frozen=True):
    """The values of `Authorization` and of `X-API-Key`, as they came."""

    authorization: Sequence[str] = ()
    api_key: Sequence[str] = ()


class Told(msgspec.Struct, frozen=True):
    """What else is known of a request: its id, its trace, and the keyed hash of where it came from."""

    request_id: str | None = None
    traceparent: str | None = None
    address: str | None = None


class Authenticator:
    """Makes the Actor of a request, however it came in."""

    def __init__(
        self, tokens: Tokens, outside: OutsideTokens | None, standings: Standings, used: UsedKeys
    ) -> None:
        self._tokens = tokens
        self._outside = outside
        self._standings = standings
        self._used = used

    async def actor(self, given: Credentials, told: Told, now: datetime) -> Actor:
        """Raises Unauthorized; MalformedRequest for two credentials at once; Unavailable while Postgres is
        away."""
        if len(given.authorization) + len(given.api_key) > 1:
            raise MalformedRequest("send either one Authorization header or one X-API-Key header")
        if given.api_key:
            return await self._of_key(given.api_key[0].strip(), told, now)
        scheme, _, token = (given.authorization or [""])[0].partition(" ")
        if scheme.lower() != _SCHEME or not 0 < len(token.strip()) <= _LONGEST:
            raise Unauthorized("send an Authorization header with a Bearer token, or X-API-Key")
        return await self._of_token(token.strip(), told, now)

    def is_known_key(self, given: Credentials) -> bool:
        """Whether a key was good a short time ago, which is known without asking Postgres."""
        return len(given.api_key) == 1 and self._standings.knows_key(hash_key(given.api_key[0].strip()))

    async def _of_token(self, token: str, told: Told, now: datetime) -> Actor:
        claims = await self._of_outside_token(token, now) or await self._of_our_token(token, now)
        return Actor(
            user_id=claims.sub,
            organization_id=claims.org,
            roles=claims.roles,
            permissions=of_roles(claims.roles),
            session_id=claims.sid,
            expires_at=_moment(claims.exp),
            correlation_id=told.request_id,
            traceparent=told.traceparent,
            address=told.address,
        )

    async def _of_outside_token(self, token: str, now: datetime) -> Claims | None:
        """None when it is not from the outside issuer, or when there is none."""
        if self._outside is None:
            return None
        header, issuer = _unverified(token)
        if issuer != self._outside.issuer:
            return None
        claims = await self._outside.verify(token, header, now)
        standing = await self._standing(claims, now)
        if standing.is_user and not standing.active:
            raise Unauthorized(_ENDED)
        return claims

    async def _of_our_token(self, token: str, now: datetime) -> Claims:
        """A token of any other issuer is refused here."""
        claims = self._tokens.verify(token, now)
        standing = await self._standing(claims, now)
        # A token may say less than its user may now, and never more.
        within = standing.active and of_roles(claims.roles) <= of_roles(standing.roles)
        if not standing.is_user or not within or (claims.sid is not None and not standing.in_session):
            raise Unauthorized(_ENDED)
        return claims

    async def _standing(self, claims: Claims, now: datetime) -> Standing:
        found = await self._standings.of_user(claims.org, claims.sub, claims.sid, now)
        if found is None:
            raise Unauthorized("the token names an organization that does not exist")
        return found

    async def _of_key(self, clear: str, told: Told, now: datetime) -> Actor:
        if not clear.startswith(PREFIX):
            raise Unauthorized(f"a key for this API begins with {PREFIX}; others are for the door")
        found = await self._standings.of_key(hash_key(clear))
        if found is None:
            raise Unauthorized("there is no such key")
        key, maker = found.key, found.maker
        if is_over(key.revoked_at, now) or is_over(key.expires_at, now):
            raise Unauthorized("the key was revoked or has expired")
        if maker.is_user and not maker.active:
            raise Unauthorized("whoever made the key is not active any more")
        # Never more than its maker may: not when it was made, and not now. (Who comes from an outside issuer
        # has no roles of ours to compare with.)
        allowed = frozenset(key.scopes)
        self._used.note(key, now)
        return Actor(
            user_id=key.created_by,
            organization_id=key.organization_id,
            permissions=allowed & of_roles(maker.roles) if maker.is_user else allowed,
            key_id=key.id,
            expires_at=key.expires_at,
            correlation_id=told.request_id,
            traceparent=told.traceparent,
            address=told.address,
        )


def _moment(exp: float | None) -> datetime | None:
    """The moment of a claim `exp`; None for one that lies beyond the calendar."""
    try:
        return None if exp is None else datetime.fromtimestamp(exp, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _unverified(token: str) -> tuple[Mapping[str, Any], str | None]:
    """The header and the issuer that a token claims, to know whose keys to check it with. Raises
    Unauthorized."""
    try:
        parts = extract_compact(token.encode())
        claims = msgspec.json.decode(parts.payload)
        header = parts.headers()
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise Unauthorized("the token is not valid or has expired") from error
    issuer = claims.get("iss") if isinstance(claims, dict) else None
    return header, issuer if isinstance(issuer, str) else None
