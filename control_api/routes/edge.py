"""The outermost layer of the application: correlation ids, security headers, metrics and the access log."""

import re
import secrets
import time
from collections.abc import Iterable, MutableMapping
from typing import Any

import structlog
from litestar import Litestar
from litestar.enums import HttpMethod, ScopeType
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from control_api import metrics
from schemas.ids import new_id

log = structlog.get_logger(__name__)

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?")
_METHODS = frozenset(HttpMethod)
_QUIET = {"/health", "/ready", "/metrics"}
_STREAM = "/stream"
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

    X-Request-ID and the trace of `traceparent` (W3C) are taken from the request, or made; they are in the
    answer, in the log, in domain events.
    """

    def __init__(self, app: Litestar, through: ASGIApp | None = None) -> None:
        """`through` is what stands between the two, if anything does."""
        self.app = app
        self._through: ASGIApp = through or app
        # Litestar answers OPTIONS with the methods that it had found by then, not with all of a path.
        self._allowed = {
            route.path_format: ", ".join(sorted(route.methods)).encode()
            for route in app.routes
            if isinstance(route, HTTPRoute)
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes everything on; adds to HTTP answers."""
        if scope["type"] != ScopeType.HTTP:
            await self._through(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = request_id_of(scope["headers"])
        trace_id, traceparent = trace_of(scope["headers"])
        _state(scope).update(request_id=request_id, traceparent=traceparent)
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [
                    *_SECURITY_HEADERS,
                    (b"x-request-id", request_id.encode()),
                    (b"traceparent", traceparent.encode()),
                ]
                message["headers"] = [*self._with_allow(scope, message["headers"]), *own]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id, trace_id=trace_id):
            await self._through(scope, receive, send_on)
            _count(scope, status, time.perf_counter() - began)

    def _with_allow(
        self, scope: HTTPScope, headers: Iterable[tuple[bytes, bytes]]
    ) -> Iterable[tuple[bytes, bytes]]:
        if scope["method"] != HttpMethod.OPTIONS:
            return headers
        allowed = self._allowed.get(str(scope.get("path_template")))
        return [(name, allowed if allowed and name.lower() == b"allow" else value) for name, value in headers]


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The caller's own id of the request, or a new one."""
    given = next((value for name, value in headers if name == b"x-request-id"), b"")
    return given.decode() if _REQUEST_ID.fullmatch(given) else new_id()


def trace_of(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, str]:
    """The trace's id, and the traceparent of this request: a span of its own in the caller's trace."""
    given = next((value for name, value in headers if name == b"traceparent"), b"")
    found = _TRACEPARENT.fullmatch(given)
    trace_id = found[1].decode() if found and found[1] != b"0" * 32 else secrets.token_hex(16)
    flags = found[2].decode() if found else "00"
    return trace_id, f"00-{trace_id}-{secrets.token_hex(8)}-{flags}"


def _state(scope: Scope) -> MutableMapping[str, Any]:
    # A dict of this request's own: a server may hand out the one of the application's lifespan.
    scope["state"] = dict(scope.get("state") or {})
    return scope["state"]


def _count(scope: HTTPScope, status: int, seconds: float) -> None:
    route = str(scope.get("path_template") or "unknown")
    # Each label is kept for ever, and anyone may make methods up.
    method = scope["method"] if scope["method"] in _METHODS else "other"
    metrics.REQUESTS.labels(method, route, status).inc()
    if not route.endswith(_STREAM):  # it lasts for as long as somebody listens
        metrics.REQUEST_SECONDS.labels(method, route).observe(seconds)
    if scope["path"] not in _QUIET:
        milliseconds = round(seconds * 1000, 1)
        log.info("request", method=scope["method"], path=scope["path"], status=status, ms=milliseconds)
