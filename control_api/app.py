"""The composition root: the only place where adapters are built."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import structlog
from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.middleware import DefineMiddleware

from control_api import metrics
from control_api.auth.authenticator import Authenticator
from control_api.auth.entrance import Entrance
from control_api.auth.issuer_keys import IssuerKeys
from control_api.auth.middleware import Authentication
from control_api.auth.outside import Outside, OutsideTokens
from control_api.auth.passwords import Argon2Passwords
from control_api.auth.rates import Rates
from control_api.auth.signer import SessionSigner
from control_api.auth.standing import Standings
from control_api.auth.tokens import Tokens
from control_api.auth.used_keys import UsedKeys
from control_api.clock import utc_now
from control_api.consumers.budget_gates import BudgetGateConsumer
from control_api.consumers.domain_events import DomainEventConsumer
from control_api.external.door import HttpDoor
from control_api.external.reports import ClickHouse
from control_api.external.subscribers import HttpSubscribers
from control_api.external.targeting import NoRulesService
from control_api.handlers.live import Streams
from control_api.handlers.login import Gate
from control_api.jobs import access as access_jobs
from control_api.jobs import crossings, deliveries, end_dates, imports
from control_api.jobs import repeats as repeat_jobs
from control_api.life import Life
from control_api.routes import docs, system
from control_api.routes.analytics import AnalyticsRoutes
from control_api.routes.approvals import ApprovalRoutes
from control_api.routes.audit import AuditRoutes
from control_api.routes.auth import AuthRoutes
from control_api.routes.bulk import BulkRoutes
from control_api.routes.campaigns import CampaignRoutes
from control_api.routes.cors import cors_config
from control_api.routes.edge import Edge
from control_api.routes.exports import ExportRoutes
from control_api.routes.guards import refuse_unknown_parameters, require_permission
from control_api.routes.imports import ImportRoutes
from control_api.routes.jobs import JobRoutes
from control_api.routes.keys import KeyRoutes
from control_api.routes.openapi import openapi_config
from control_api.routes.organization import OrganizationRoutes
from control_api.routes.problems import HANDLERS
from control_api.routes.rates import RateHeaders
from control_api.routes.repeats import IdempotencyKeys
from control_api.routes.request import ApiRequest
from control_api.routes.responses import JsonResponse
from control_api.routes.services import Access, Services, services_of
from control_api.routes.transitions import TransitionRoutes
from control_api.routes.users import UserRoutes
from control_api.routes.webhooks import WebhookRoutes
from control_api.settings import Settings
from control_api.stores.access import AccessReads, LoginAttempts
from control_api.stores.audit_log import PostgresAuditLog
from control_api.stores.database import Database
from control_api.stores.live import LiveCampaigns
from control_api.stores.once import Repeats
from control_api.stores.readback import AccessKeys, BudgetGates, CampaignStates
from control_api.stores.webhook_secrets import WebhookSecrets
from schemas.process import spare_the_collector
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
    database = Database.of(settings.postgres, pool_size=settings.postgres_connections)
    kafka = Publisher(
        settings.kafka, client_id="control_api", deadlines=_PUBLISHING, on_outcome=metrics.count_published
    )
    repeats = Repeats(database.pool)
    tokens, reads, used = Tokens(settings.jwt_secret), AccessReads(database.pool), UsedKeys()
    access = _access(settings, database, tokens, reads, used)
    secrets = WebhookSecrets(settings.jwt_secret)
    door, clickhouse = HttpDoor(settings.ingest), ClickHouse(settings.clickhouse)

    def give_up() -> None:
        database.close()
        clickhouse.give_up()

    life.give_up = give_up
    streams = Streams(LiveCampaigns(database.pool), utc_now, life)
    services = Services(
        store=database,
        clock=utc_now,
        tokens=tokens,
        access=access,
        door=door,
        reports_of=clickhouse.reports,
        targeting=NoRulesService(),
        streams=streams,
        webhook_secrets=secrets,
        webhooks_private=settings.webhooks_private,
    )

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
        subscribers = HttpSubscribers(private=settings.webhooks_private, connections=deliveries.MOST)
        worker = deliveries.DeliveryWorker(database, utc_now, secrets, subscribers)
        events = DomainEventConsumer(settings.kafka, database, utc_now, worker.wake)
        work: dict[str, Callable[[], Awaitable[None]]] = {
            "outbox": relay.run,
            "budget-gates": gates.run,
            "readback": readback.run,
            "crossings": lambda: crossings.run(database, utc_now),
            "end-dates": lambda: end_dates.run(database, utc_now),
            "domain-events": events.run,
            "deliveries": worker.run,
            "deliveries-backlog": lambda: deliveries.measure(database, utc_now),
            "deliveries-given-up": lambda: deliveries.give_up(database),
            "deliveries-age": lambda: deliveries.forget(database, utc_now),
            "streams": streams.run,
            "repeats": lambda: repeat_jobs.forget(repeats, utc_now),
            "used-keys": lambda: access_jobs.write_used_keys(used, reads),
            "access": lambda: access_jobs.forget(reads, utc_now),
            "imports": lambda: imports.run(database, utc_now),
            "imports-beside": lambda: imports.run(database, utc_now),
            "old-imports": lambda: imports.forget(database, utc_now),
        }
        tasks = {name: asyncio.create_task(_watched(name, part)) for name, part in work.items()}
        try:
            async with _grpc(settings, services, repeats, life, lambda: _is_ready(database, kafka)):
                spare_the_collector()
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
            await subscribers.close()
            database.close()
            await door.close()
            await clickhouse.close()

    app = Litestar(
        route_handlers=[
            api(),
            *system.ROUTES,
            *docs.ROUTES,
        ],
        lifespan=[background],
        state=State(
            {
                "services": services,
                "repeats": repeats,
                "kafka": kafka,
                "life": life,
                "body_seconds": settings.body_seconds,
                "secret": settings.jwt_secret,
            }
        ),
        dependencies={"services": Provide(services_of, sync_to_thread=False)},
        exception_handlers=HANDLERS,
        request_class=ApiRequest,
        response_class=JsonResponse,
        openapi_config=openapi_config(VERSION),
        cors_config=cors_config(settings.cors_origins),
        request_max_body_size=_MAX_BODY_BYTES,
        logging_config=None,
    )
    rates = RateHeaders(app, access.entrance, settings.jwt_secret, settings.trusted_proxies)
    return Edge(app, through=rates)


def _access(
    settings: Settings, database: Database, tokens: Tokens, reads: AccessReads, used: UsedKeys
) -> Access:
    secret, (per_account, per_address) = settings.jwt_secret, settings.login_attempts
    outside, standings = None, Standings(reads)
    rates = Rates(user=settings.rate_user, key=settings.rate_key, address=settings.rate_address)
    if issuer := settings.outside:
        wanted = Outside(
            issuer=issuer.issuer,
            audience=issuer.audience,
            org_claim=issuer.org_claim,
            roles_claim=issuer.roles_claim,
        )
        outside = OutsideTokens(wanted, IssuerKeys(issuer.jwks_url))
    gate = Gate(
        store=database,
        directory=reads,
        passwords=Argon2Passwords(),
        attempts=LoginAttempts(database.pool, secret, per_account=per_account, per_address=per_address),
        signer=SessionSigner(secret, tokens),
    )
    return Access(
        entrance=Entrance(Authenticator(tokens, outside, standings, used), rates),
        standings=standings,
        gate=gate,
        audit_log=PostgresAuditLog(database.pool),
    )


def api() -> Router:
    """Everything under /api/v1."""
    return Router(
        path="/api/v1",
        route_handlers=[
            CampaignRoutes,
            TransitionRoutes,
            ApprovalRoutes,
            BulkRoutes,
            ExportRoutes,
            ImportRoutes,
            JobRoutes,
            KeyRoutes,
            OrganizationRoutes,
            UserRoutes,
            AuthRoutes,
            AuditRoutes,
            WebhookRoutes,
            AnalyticsRoutes,
        ],
        middleware=[DefineMiddleware(Authentication), DefineMiddleware(IdempotencyKeys)],
        guards=[require_permission, refuse_unknown_parameters],
    )


async def _is_ready(database: Database, kafka: Publisher) -> bool:
    return all((await system.engines(database, kafka)).values())


def _grpc(
    settings: Settings,
    services: Services,
    repeats: Repeats,
    life: Life,
    is_ready: Callable[[], Awaitable[bool]],
) -> AbstractAsyncContextManager[None]:
    """The gRPC server where one is asked for; its libraries are loaded only then."""
    if settings.grpc is None:
        return contextlib.nullcontext()
    from control_api.rpc.entry import RpcServices  # noqa: PLC0415
    from control_api.rpc.server import serving  # noqa: PLC0415

    needed = RpcServices(
        store=services.store,
        clock=services.clock,
        entrance=services.access.entrance,
        repeats=repeats,
        door=services.door,
        streams=services.streams,
        secret=settings.jwt_secret,
        trusted_proxies=settings.trusted_proxies,
    )
    return serving(settings.grpc, needed, life, is_ready, settings.drain_seconds)


async def _watched(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Runs background work to its end: an error that nobody expected is logged, and the work begins anew."""
    while True:
        try:
            return await work()
        except Exception:
            log.exception("background.failed", work=name)
            await asyncio.sleep(_RESTART_SECONDS)
