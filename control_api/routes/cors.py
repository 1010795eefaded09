"""Consoles whose pages come from another origin (FLIGHTLINE_CORS_ORIGINS)."""

from collections.abc import Sequence

from litestar.config.cors import CORSConfig

_EXPOSED = [
    "Content-Disposition",
    "ETag",
    "Idempotent-Replayed",
    "Link",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-Request-ID",
    "traceparent",
]
_SENT = [
    "Authorization",
    "Content-Encoding",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "Last-Event-ID",
    "X-API-Key",
    "X-Request-ID",
    "traceparent",
]
_REMEMBERED_SECONDS = 600


def cors_config(origins: Sequence[str]) -> CORSConfig | None:
    """None when there are none: then no browser's page elsewhere may read an answer. There are no cookies, so
    credentials are never allowed."""
    if not origins:
        return None
    return CORSConfig(
        allow_origins=list(origins),
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=_SENT,
        expose_headers=_EXPOSED,
        max_age=_REMEMBERED_SECONDS,
    )
