"""Where a request comes from, found once; and the RateLimit headers on every answer under /api/v1."""

from collections.abc import Sequence
from typing import Any

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from control_api.auth.address import Network, address_hash, client_of
from control_api.auth.entrance import Entrance

_PREFIX = "/api/v1/"


class RateHeaders:
    """An ASGI application around another one, inside the Edge: authentication counts, this shows what is
    left.

    What authentication does not see, such as a path that does not exist, shows what its address has left.
    """

    def __init__(self, app: ASGIApp, entrance: Entrance, secret: str, trusted: Sequence[Network]) -> None:
        self._app = app
        self._entrance = entrance
        self._secret = secret
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes everything on; adds to HTTP answers."""
        if scope["type"] != ScopeType.HTTP:
            return await self._app(scope, receive, send)
        told: Any = scope["state"]
        told["address"] = address_hash(self._secret, self._client(scope))
        if not scope["path"].startswith(_PREFIX):
            return await self._app(scope, receive, send)

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                rate = told.get("rate") or self._entrance.left(told["address"])
                message["headers"] = [*message["headers"], *rate.headers]
            await send(message)

        return await self._app(scope, receive, send_on)

    def _client(self, scope: Any) -> str | None:
        peer = scope.get("client")
        lines = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
        return client_of(peer[0] if peer else None, lines, self._trusted)
