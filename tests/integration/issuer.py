"""An outside issuer: a small HTTP server that publishes keys, and tokens signed with them."""

import base64
import hmac
import time
from typing import Any, Self

import msgspec
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from tests.running import free_port

AUDIENCE = "flightline"


def rsa(kid: str, bits: int = 2048) -> RSAKey:
    return RSAKey.generate_key(bits, {"kid": kid, "use": "sig"})


def ec(kid: str, curve: Any = "P-256") -> ECKey:
    return ECKey.generate_key(curve, {"kid": kid, "use": "sig"})


def okp(kid: str) -> OKPKey:
    return OKPKey.generate_key("Ed25519", {"kid": kid, "use": "sig"})


class Issuer:
    """Serves the public halves of `keys`; `asked` counts how often. It can be away and come back."""

    def __init__(self, *keys: Key) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/keys"
        self.name = f"http://127.0.0.1:{self.port}/"
        self.keys = list(keys)
        self.body: bytes | None = None
        self.asked = 0
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/keys", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        shown = msgspec.json.encode({"keys": [key.as_dict(private=False) for key in self.keys]})
        return web.Response(
            body=self.body if self.body is not None else shown, content_type="application/json"
        )

    def claims(self, organization_id: str, **changes: Any) -> dict[str, Any]:
        """What a good token says; None leaves a claim out."""
        now = int(time.time())
        good = {
            "iss": self.name,
            "aud": AUDIENCE,
            "sub": "auth|ann",
            "org": organization_id,
            "roles": ["editor"],
            "iat": now,
            "nbf": now,
            "exp": now + 300,
        }
        return {name: value for name, value in (good | changes).items() if value is not None}

    def token(self, key: Key, algorithm: str, claims: dict[str, Any], **header: Any) -> str:
        """Signed with a key; `header` adds to it, None leaves a part out."""
        told = {"alg": algorithm, "kid": key.kid, "typ": "JWT"} | header
        told = {name: value for name, value in told.items() if value is not None}
        return jwt.encode(told, claims, key, algorithms=[algorithm], default_type=None)


def forged(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """A token put together by hand."""
    return f"{_unsigned(header, claims)}.{_part(signature)}"


def hmac_with_public_key(key: RSAKey, claims: dict[str, Any]) -> str:
    """Algorithm confusion: the public key, which everybody has, taken for a secret."""
    header = {"alg": "HS256", "kid": key.kid, "typ": "JWT"}
    text = _unsigned(header, claims).encode()
    return forged(header, claims, hmac.digest(key.as_pem(private=False), text, "sha256"))


def _unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    return f"{_part(msgspec.json.encode(header))}.{_part(msgspec.json.encode(claims))}"


def _part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")
