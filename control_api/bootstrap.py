"""What an empty installation needs before anybody can ask for anything: organization, admin, two keys."""

import secrets
from datetime import datetime, timedelta

import msgspec

from control_api.auth.tokens import Claims, Tokens
from control_api.clock import utc_now
from control_api.domain.keys import PREFIXES, KeyRequest
from control_api.domain.permissions import Role
from control_api.handlers.actor import Actor
from control_api.handlers.keys import publish_key, stored_key
from control_api.settings import Settings
from control_api.stores.database import Database
from control_api.stores.unit import PostgresUnit
from schemas.access_keys import KeyKind
from schemas.reasons import Scope

ORGANIZATION_ID = "01900000-0000-7000-8000-000000000001"
ADMIN_ID = "01900000-0000-7000-8000-000000000002"
_TOKEN_LIFETIME = timedelta(days=30)
_KEY_BYTES = 32


class Bootstrap(msgspec.Struct, frozen=True, kw_only=True):
    """The first organization, a token of its admin, and the clear text of its keys."""

    organization_id: str
    admin_id: str
    admin_token: str
    write_key: str
    server_key: str


async def bootstrap(
    settings: Settings,
    *,
    write_key: str = "",
    server_key: str = "",
    organization_id: str = ORGANIZATION_ID,
    admin_id: str = ADMIN_ID,
    organization_name: str = "Default",
) -> Bootstrap:
    """Ensures all of it; what is there already stays as it is. Postgres must be migrated.

    The keys are the caller's to keep: only their hashes are stored, so a later call must give them again. An
    empty one is made. They reach the doors through the outbox, once the control API runs.
    """
    write_key = write_key or new_key(KeyKind.PUBLISHABLE)
    server_key = server_key or new_key(KeyKind.SERVER)
    now = utc_now()
    actor = Actor(user_id=admin_id, organization_id=organization_id, roles=(Role.ADMIN,))
    wanted = {
        write_key: KeyRequest(name="first publishable key", kind=KeyKind.PUBLISHABLE, scopes=(Scope.WRITE,)),
        server_key: KeyRequest(name="first server key", kind=KeyKind.SERVER, scopes=tuple(Scope)),
    }

    async def work(unit: PostgresUnit) -> None:
        await unit.ensure_organization(organization_id, organization_name, "UTC", "EUR")
        await unit.ensure_user(admin_id, organization_id, f"admin@{organization_id}.invalid", [Role.ADMIN])
        for clear, asked in wanted.items():
            await _ensure_key(unit, clear, asked, actor, now)

    database = Database.of(settings.postgres, pool_size=1)
    try:
        await database.in_transaction(work)
    finally:
        database.close()
    return Bootstrap(
        organization_id=organization_id,
        admin_id=admin_id,
        admin_token=mint_admin_token(settings.jwt_secret, organization_id, admin_id, now=now),
        write_key=write_key,
        server_key=server_key,
    )


def mint_admin_token(
    jwt_secret: str,
    organization_id: str = ORGANIZATION_ID,
    admin_id: str = ADMIN_ID,
    *,
    now: datetime,
    lifetime: timedelta = _TOKEN_LIFETIME,
) -> str:
    """An access token of an admin, signed with the service's secret."""
    claims = Claims(admin_id, organization_id, (Role.ADMIN,))
    return Tokens(jwt_secret).mint(claims, now=now, lifetime=lifetime)


def new_key(kind: KeyKind) -> str:
    """The clear text of a new key."""
    return PREFIXES[kind] + secrets.token_urlsafe(_KEY_BYTES)


async def _ensure_key(unit: PostgresUnit, clear: str, asked: KeyRequest, actor: Actor, now: datetime) -> None:
    key = stored_key(clear, asked, actor, now)
    if await unit.create_key(key):
        await publish_key(unit, key)
