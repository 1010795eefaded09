"""The keys that an outside issuer publishes (JWKS): read over HTTP, kept, read again when they rotate."""

import asyncio
from typing import Any

import aiohttp
import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

log = structlog.get_logger(__name__)

ALGORITHMS = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP", "Ed25519": "OKP"}
"""The type of key that each algorithm goes with."""

AGAIN_SECONDS = 5.0
"""So often at most they are read for a key that is not known."""

OLD_SECONDS = 300.0
"""So old they are read again although nothing is missing: a key that was withdrawn ends."""

_READ_SECONDS = 3.0
_MOST_BYTES = 1 << 20
_MOST_KEYS = 100
_LEAST_RSA_BITS = 2048
_CURVES = {"RSA": None, "EC": "P-256", "OKP": "Ed25519"}
_PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "oth"}
_IMPORT: dict[str, type[RSAKey] | type[ECKey] | type[OKPKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}


class IssuerKeys:
    """While the issuer is away, the keys that are known go on working."""

    def __init__(self, url: str, *, again: float = AGAIN_SECONDS, old: float = OLD_SECONDS) -> None:
        self._url = url
        self._again = again
        self._old = old
        self._keys: dict[str, Key] = {}
        self._tried: float | None = None
        self._read_at: float | None = None
        self._reading: asyncio.Task[None] | None = None

    async def get(self, kid: str, algorithm: str) -> Key | None:
        """The key of this name, when the algorithm is its own.

        One that is not known is waited for. What is known is used at once, and read anew beside that when it
        is old.
        """
        now = asyncio.get_running_loop().time()
        if kid not in self._keys:
            if self._reading is not None or self._may_try(now):
                await asyncio.shield(self._read(now))
        elif (self._read_at is None or now - self._read_at > self._old) and self._may_try(now):
            self._read(now)
        key = self._keys.get(kid)
        return key if key is not None and fits(key, algorithm) else None

    def _may_try(self, now: float) -> bool:
        return self._tried is None or now - self._tried >= self._again

    def _read(self, now: float) -> "asyncio.Task[None]":
        """The reading that is under way, or a new one."""
        if self._reading is None:
            self._tried = now
            self._reading = asyncio.create_task(self._fetch())
            self._reading.add_done_callback(self._done)
        return self._reading

    def _done(self, _: "asyncio.Task[None]") -> None:
        self._reading = None

    async def _fetch(self) -> None:
        try:
            keys = usable(msgspec.json.decode(await self._text()))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            log.warning("issuer_keys.not_read", error=repr(error), known=len(self._keys))
            return
        self._keys = keys
        self._read_at = asyncio.get_running_loop().time()
        log.info("issuer_keys.read", keys=sorted(keys))

    async def _text(self) -> bytes:
        limit = aiohttp.ClientTimeout(total=_READ_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=limit) as http,
            http.get(self._url, allow_redirects=False, raise_for_status=True) as answer,
        ):
            if answer.status != 200:  # noqa: PLR2004  the one status that comes with keys
                raise ValueError(f"answered with {answer.status}")
            text = await answer.content.read(_MOST_BYTES + 1)
            while len(text) <= _MOST_BYTES and (more := await answer.content.read(_MOST_BYTES)):
                text += more
        if len(text) > _MOST_BYTES:
            raise ValueError("too large")
        return text


def fits(key: Key, algorithm: str) -> bool:
    """Whether a key is of the algorithm's type, and says no other algorithm of itself."""
    own = key.get("alg")
    same = own is None or own == algorithm or {own, algorithm} <= {"EdDSA", "Ed25519"}
    return same and ALGORITHMS.get(algorithm) == key.key_type


def usable(jwks: Any) -> dict[str, Key]:
    """The public keys of a JWKS that signatures are checked with here, by their kid. All others are passed
    over: secrets (`oct`), keys to encrypt with, other curves, short ones. Raises ValueError when it is no
    JWKS."""
    listed = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(listed, list):
        raise ValueError("not a JWKS")  # noqa: TRY004  what was read has no right value
    found = (_usable(given) for given in listed[:_MOST_KEYS] if isinstance(given, dict))
    return {key.kid: key for key in found if key is not None and key.kid}


def _usable(given: dict[str, Any]) -> Key | None:
    kind = given.get("kty")
    if kind not in _IMPORT or not isinstance(given.get("kid"), str) or given.get("use", "sig") != "sig":
        return None
    if _CURVES[kind] != given.get("crv") or "verify" not in given.get("key_ops", ["verify"]):
        return None
    public = {name: value for name, value in given.items() if name not in _PRIVATE}
    try:
        key: Key = _IMPORT[kind].import_key(public)
    except (JoseError, ValueError, TypeError):
        return None
    raw = key.public_key
    if isinstance(raw, RSAPublicKey) and raw.key_size < _LEAST_RSA_BITS:
        return None
    return key
