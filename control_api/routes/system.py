"""/health, /ready, /metrics: no token, no organization."""

from typing import Any

from litestar import Response, get
from litestar.datastructures import State
from litestar.status_codes import HTTP_200_OK, HTTP_503_SERVICE_UNAVAILABLE
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from control_api import metrics
from control_api.errors import Unavailable
from control_api.stores.database import Database
from sql.publisher import Publisher

_PROMETHEUS = CONTENT_TYPE_LATEST.removesuffix("; charset=utf-8")
"""Litestar adds the charset."""


@get("/health", include_in_schema=False)
async def health() -> dict[str, str]:
    """The process is alive, whatever else is."""
    return {"status": "ok"}


@get("/ready", include_in_schema=False)
async def ready(state: State) -> Response[dict[str, Any]]:
    """200 when Postgres and Kafka answer; else 503 that names what does not.

    503 also before the process ends: a balancer sends nothing more while all is still served.
    """
    if state.life.stopping:
        return Response({"status": "stopping", "checks": {}}, status_code=HTTP_503_SERVICE_UNAVAILABLE)
    checks = await engines(state.services.store, state.kafka)
    works = all(checks.values())
    body = {"status": "ready" if works else "unavailable", "checks": checks}
    return Response(body, status_code=HTTP_200_OK if works else HTTP_503_SERVICE_UNAVAILABLE)


@get("/metrics", include_in_schema=False, media_type=_PROMETHEUS)
async def prometheus(state: State) -> bytes:
    """All metrics of the process, for Prometheus."""
    await _postgres_answers(state.services.store)
    return generate_latest()


async def engines(database: Database, kafka: Publisher) -> dict[str, bool]:
    """What the service cannot be without, and whether it answers."""
    return {"postgres": await _postgres_answers(database), "kafka": await kafka.is_connected()}


async def _postgres_answers(database: Database) -> bool:
    try:
        metrics.OUTBOX_BACKLOG.set(await database.outbox_backlog())
    except Unavailable:
        return False
    return True


ROUTES = (health, ready, prometheus)
