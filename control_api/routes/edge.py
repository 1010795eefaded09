"""The outermost layer of the application: correlation ids, security headers, metrics and the access log."""

import re
import time
from collections.abc import MutableMapping
from typing import Any

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from control_api import metrics
from schemas.ids import new_id

log = structlog.get_logger(__name__)

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_QUIET = {"/health", "/ready", "/metrics"}
_SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    (b"strict-transport-security", b"max-age=31536000"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class Edge:
    """An ASGI application around another one.

    X-Request-ID is taken from the request, or made; it is in the answer, in the log, in domain events.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes everything on; adds to HTTP answers."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = _request_id(scope)
        _state(scope)["request_id"] = request_id
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [*_SECURITY_HEADERS, (b"x-request-id", request_id.encode())]
                message["headers"] = [*message["headers"], *own]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._app(scope, receive, send_on)
            _count(scope, status, time.perf_counter() - began)


def _request_id(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode() if _REQUEST_ID.fullmatch(given) else new_id()


def _state(scope: Scope) -> MutableMapping[str, Any]:
    # A dict of this request's own: a server may hand out the one of the application's lifespan.
    scope["state"] = dict(scope.get("state") or {})
    return scope["state"]


def _count(scope: HTTPScope, status: int, seconds: float) -> None:
    route = str(scope.get("path_template") or "unknown")
    metrics.REQUESTS.labels(scope["method"], route, status).inc()
    metrics.REQUEST_SECONDS.labels(scope["method"], route).observe(seconds)
    if scope["path"] not in _QUIET:
        milliseconds = round(seconds * 1000, 1)
        log.info("request", method=scope["method"], path=scope["path"], status=status, ms=milliseconds)
