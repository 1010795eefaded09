"""Tokens of an outside issuer: signed with one of the keys that it publishes (JWKS)."""

import warnings
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning

from control_api.auth.issuer_keys import ALGORITHMS, IssuerKeys
from control_api.auth.tokens import Claims
from control_api.errors import Unauthorized
from schemas.ids import canonical_uuid

# It would have `Ed25519` for EdDSA (RFC 9864), which issuers do not send yet. Both are read.
warnings.filterwarnings("ignore", message="EdDSA", category=SecurityWarning)

_LEEWAY_SECONDS = 30
_TYPES = {None, "jwt", "at+jwt", "application/at+jwt"}
_HEADERS = {"alg", "kid", "typ"}
_INVALID = "the token is not valid or has expired"


class Outside(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a token: its issuer and audience, and the claims that hold organization and roles."""

    issuer: str
    audience: str
    org_claim: str = "org"
    roles_claim: str = "roles"


class OutsideTokens:
    """Checks them. The header chooses among the issuer's own keys and nothing else: a token that brings a
    key, the address of one, or extensions is refused, and so is an algorithm that is not the key's."""

    def __init__(self, wanted: Outside, keys: IssuerKeys) -> None:
        self._wanted = wanted
        self._keys = keys

    @property
    def issuer(self) -> str:
        """Whose tokens these are."""
        return self._wanted.issuer

    async def verify(self, token: str, header: Mapping[str, Any], now: datetime) -> Claims:
        """The claims of a valid token. Raises Unauthorized."""
        typ, kid, algorithm = header.get("typ"), header.get("kid"), header.get("alg")
        if typ is not None and not isinstance(typ, str):
            raise Unauthorized(_INVALID)
        if set(header) - _HEADERS or (typ and typ.lower()) not in _TYPES or algorithm not in ALGORITHMS:
            raise Unauthorized(_INVALID)
        if not isinstance(kid, str) or not kid:
            raise Unauthorized("the token does not name its key (kid)")
        key = await self._keys.get(kid, algorithm)
        if key is None:
            raise Unauthorized("the token is signed with a key that its issuer does not publish")
        registry = jwt.JWTClaimsRegistry(
            now=int(now.timestamp()),
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": self._wanted.issuer},
            aud={"essential": True, "value": self._wanted.audience},
            exp={"essential": True},
            sub={"essential": True},
        )
        try:
            claims = jwt.decode(token, key, algorithms=[algorithm]).claims
            registry.validate(claims)
            return self._read(claims)
        except (JoseError, ValueError, TypeError, OverflowError) as error:
            raise Unauthorized(_INVALID) from error

    def _read(self, claims: dict[str, Any]) -> Claims:
        subject, organization = claims["sub"], self._claim(claims, self._wanted.org_claim)
        if not isinstance(subject, str) or not isinstance(organization, str):
            raise TypeError("sub and the organization are texts")
        known = canonical_uuid(organization)
        if known is None:
            raise Unauthorized("the token's organization is not an id")
        roles = _roles(self._claim(claims, self._wanted.roles_claim))
        return Claims(self._user_id(subject), known, roles, exp=claims["exp"])

    def _user_id(self, subject: str) -> str:
        """The subject when it is an id; else one that is made of it, always the same."""
        return canonical_uuid(subject) or str(uuid5(NAMESPACE_URL, f"{self._wanted.issuer}\n{subject}"))

    def _claim(self, claims: dict[str, Any], name: str) -> Any:
        """A claim by its name, or by a path with dots into objects (`realm_access.roles`)."""
        if name in claims:
            return claims[name]
        found: Any = claims
        for part in name.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return found


def _roles(value: Any) -> tuple[str, ...]:
    """A list of texts, or one text with spaces between them; anything else is no roles."""
    if isinstance(value, str):
        return tuple(value.split())
    if isinstance(value, list):
        return tuple(role for role in value if isinstance(role, str))
    return ()
