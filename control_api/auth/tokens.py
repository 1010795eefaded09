"""Access tokens: JWT, HS256 and nothing else, with every claim checked."""

from datetime import datetime, timedelta

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from control_api.errors import Unauthorized
from schemas.ids import canonical_uuid

ALGORITHM = "HS256"
ISSUER = "flightline"
AUDIENCE = "flightline-control-api"
_LEEWAY_SECONDS = 5


class Claims(msgspec.Struct, frozen=True):
    """Who a token speaks for; `sid` is the session of a login."""

    sub: str
    org: str
    roles: tuple[str, ...] = ()
    sid: str | None = None
    exp: float | None = None
    """Epoch seconds; known of a token that was checked."""


class Tokens:
    """Signs and checks tokens with one secret."""

    def __init__(self, secret: str) -> None:
        self._key = OctKey.import_key(secret)

    def mint(self, claims: Claims, *, now: datetime, lifetime: timedelta) -> str:
        """A signed token."""
        issued = int(now.timestamp())
        session = {"sid": claims.sid} if claims.sid else {}
        return jwt.encode(
            {"alg": ALGORITHM, "typ": "JWT"},
            {
                "sub": claims.sub,
                "org": claims.org,
                "roles": list(claims.roles),
                "iss": ISSUER,
                "aud": AUDIENCE,
                "iat": issued,
                "exp": issued + int(lifetime.total_seconds()),
                **session,
            },
            self._key,
        )

    def verify(self, token: str, now: datetime) -> Claims:
        """The claims of a valid token. Raises Unauthorized with what is wrong, never with what it says."""
        registry = jwt.JWTClaimsRegistry(
            now=int(now.timestamp()),
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": ISSUER},
            aud={"essential": True, "value": AUDIENCE},
            exp={"essential": True},
            sub={"essential": True},
            org={"essential": True},
        )
        try:
            decoded = jwt.decode(token, self._key, algorithms=[ALGORITHM])
            registry.validate(decoded.claims)
            claims = msgspec.convert(decoded.claims, Claims)
        except (JoseError, ValueError, TypeError, RecursionError, msgspec.ValidationError) as error:
            raise Unauthorized("the token is not valid or has expired") from error
        user, organization = canonical_uuid(claims.sub), canonical_uuid(claims.org)
        session = canonical_uuid(claims.sid) if claims.sid else None
        if user is None or organization is None or (claims.sid and session is None):
            raise Unauthorized("the token's sub, org and sid must be ids")
        return Claims(user, organization, claims.roles, session, claims.exp)
