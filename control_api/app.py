"""The composition root: the only place where adapters are built."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog
from litestar import Litestar, Router
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.di import Provide
from litestar.handlers import BaseRouteHandler
from litestar.middleware import DefineMiddleware

from control_api import metrics
from control_api.auth.middleware import BearerAuthentication
from control_api.auth.tokens import Tokens
from control_api.clock import utc_now
from control_api.consumers.budget_gates import BudgetGateConsumer
from control_api.domain.refusals import FieldError
from control_api.errors import MalformedRequest
from control_api.jobs import crossings, end_dates
from control_api.life import Life
from control_api.routes import docs, system
from control_api.routes.campaigns import CampaignRoutes
from control_api.routes.edge import Edge
from control_api.routes.keys import KeyRoutes
from control_api.routes.openapi import openapi_config
from control_api.routes.organization import OrganizationRoutes, me
from control_api.routes.problems import HANDLERS
from control_api.routes.request import ApiRequest
from control_api.routes.responses import JsonResponse
from control_api.routes.services import Services, services_of
from control_api.settings import Settings
from control_api.stores.database import Database
from control_api.stores.readback import AccessKeys, BudgetGates, CampaignStates
from sql.outbox import OutboxRelay
from sql.publisher import Deadlines, Publisher
from sql.readback import ReadBack

log = structlog.get_logger(__name__)

VERSION = "1.0.0"
_MAX_BODY_BYTES = 1 << 20
_RESTART_SECONDS = 1.0
_PUBLISH_SECONDS = 1.5
_END_SECONDS = 1.0
_PUBLISHING = Deadlines(connect=5.0, send=5.0)


def create_app(settings: Settings, life: Life) -> Edge:
    """The application with its background work: the outbox's relay, the read-back of what was published,
    budget gates, crossings, end dates."""
    database = Database(settings.postgres)
    kafka = Publisher(
        settings.kafka, client_id="control_api", deadlines=_PUBLISHING, on_outcome=metrics.count_published
    )
    life.give_up = database.close
    services = Services(store=database, clock=utc_now, tokens=Tokens(settings.jwt_secret))

    @contextlib.asynccontextmanager
    async def background(_: Litestar) -> AsyncIterator[None]:
        relay = OutboxRelay(database.connect, "control", kafka.publish)
        gates = BudgetGateConsumer(settings.kafka, database, utc_now)
        readback = ReadBack(
            settings.kafka,
            database.connect_for_readback,
            (CampaignStates(utc_now), AccessKeys(utc_now), BudgetGates()),
            metrics.count_published_again,
        )
        work: dict[str, Callable[[], Awaitable[None]]] = {
            "outbox": relay.run,
            "budget-gates": gates.run,
            "readback": readback.run,
            "crossings": lambda: crossings.run(database, utc_now),
            "end-dates": lambda: end_dates.run(database, utc_now),
        }
        tasks = {name: asyncio.create_task(_watched(name, part)) for name, part in work.items()}
        try:
            yield
        finally:
            # All requests are answered. What they have committed is published, if that can be done soon.
            relay.finish()
            await asyncio.wait({tasks["outbox"]}, timeout=_PUBLISH_SECONDS)
            # Before the relay's lock is given up: whoever has it next must not be overtaken.
            await kafka.stop()
            for task in tasks.values():
                task.cancel()
            await asyncio.wait(tasks.values(), timeout=_END_SECONDS)
            database.close()

    app = Litestar(
        route_handlers=[
            _api(),
            *system.ROUTES,
            *docs.ROUTES,
        ],
        lifespan=[background],
        state=State(
            {"services": services, "kafka": kafka, "life": life, "body_seconds": settings.body_seconds}
        ),
        dependencies={"services": Provide(services_of, sync_to_thread=False)},
        exception_handlers=HANDLERS,
        request_class=ApiRequest,
        response_class=JsonResponse,
        openapi_config=openapi_config(VERSION),
        request_max_body_size=_MAX_BODY_BYTES,
        logging_config=None,
    )
    return Edge(app)


def _api() -> Router:
    return Router(
        path="/api/v1",
        route_handlers=[CampaignRoutes, KeyRoutes, OrganizationRoutes, me],
        middleware=[DefineMiddleware(BearerAuthentication)],
        guards=[refuse_unknown_parameters],
    )


def refuse_unknown_parameters(connection: ASGIConnection, handler: BaseRouteHandler) -> None:  # type: ignore[type-arg]
    """A route that reads no query parameters has none: a misspelt one is not passed over."""
    if not handler.opt.get("reads_parameters") and connection.query_params:
        errors = [FieldError(name, "unknown parameter") for name in connection.query_params]
        raise MalformedRequest("this resource has no query parameters", errors)


async def _watched(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Runs background work to its end: an error that nobody expected is logged, and the work begins anew."""
    while True:
        try:
            return await work()
        except Exception:
            log.exception("background.failed", work=name)
            await asyncio.sleep(_RESTART_SECONDS)
