"""What routes hand to handlers."""

import msgspec
from litestar.datastructures import State

from control_api.auth.entrance import Entrance
from control_api.auth.standing import Standings
from control_api.auth.tokens import Tokens
from control_api.handlers.audience import Targeting
from control_api.handlers.audit_log import AuditLog
from control_api.handlers.live import Streams
from control_api.handlers.login import Gate
from control_api.handlers.performance import ReportsOf
from control_api.handlers.ports import Clock, Store
from control_api.handlers.track import Door
from control_api.handlers.webhook_ports import Secrets
from control_api.routes.request import ApiRequest


class Access(msgspec.Struct, frozen=True):
    """Who somebody is and how often he may ask, how he logs in, and what was done."""

    entrance: Entrance
    standings: Standings
    gate: Gate
    audit_log: AuditLog


class Services(msgspec.Struct, frozen=True):
    """Built once, in app.py; stands in the application's state."""

    store: Store
    clock: Clock
    tokens: Tokens
    access: Access
    webhook_secrets: Secrets
    door: Door
    reports_of: ReportsOf
    targeting: Targeting
    streams: Streams
    webhooks_private: bool = False


def services_of(state: State, request: ApiRequest) -> Services:
    """Litestar's dependency `services`; a request with an Idempotency-Key has a store of its own."""
    services: Services = state.services
    store = request.scope["state"].get("store")
    return msgspec.structs.replace(services, store=store) if store else services
