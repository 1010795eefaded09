"""The pool of connections to Postgres, transactions with bounded waits, and reads without a lock."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import TypeVar, cast

import asyncpg
import structlog

from control_api.domain.account import Account
from control_api.domain.campaign import Campaign
from control_api.domain.keys import StoredKey
from control_api.domain.organization import Organization, User
from control_api.errors import NameTaken, Unavailable
from control_api.handlers.listing import ListQuery
from control_api.stores.rows import (
    campaign_from,
    key_from,
    organization_from,
    unfollowed_from,
    user_from,
)
from control_api.stores.unit import PostgresUnit, read_account
from schemas.budget_gates import BudgetGate
from sql.load import postgres_queries
from sql.outbox import RELAY_COMMAND_SECONDS, RELAY_SESSION
from sql.readback import READBACK_SESSION

log = structlog.get_logger(__name__)
T = TypeVar("T")

_campaigns = postgres_queries("control_campaigns")
_organizations = postgres_queries("control_organizations")
_keys = postgres_queries("control_keys")
_outbox = postgres_queries("control_outbox")
_ledger = postgres_queries("control_ledger")

_ATTEMPTS = 4
_CONNECT_SECONDS = 3.0
_ACQUIRE_SECONDS = 5.0
# A transaction here holds the lock of an account, for which billing waits: nothing may keep one open.
_SERVER_SETTINGS = {
    "application_name": "control_api",
    "lock_timeout": "2s",
    "statement_timeout": "5s",
    "idle_in_transaction_session_timeout": "2s",
    "jit": "off",
}
_ROLLED_BACK = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
)
_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidTransactionStateError,
    asyncpg.InternalClientError,
    asyncpg.UndefinedTableError,  # not migrated yet
    asyncpg.InvalidSchemaNameError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.CannotConnectNowError,
)
_NAME_INDEX = "campaigns_name_unique"


class Database:
    """Postgres as handlers see it (handlers.ports.Store). It may be away: then every call raises Unavailable,
    and works again as soon as Postgres does."""

    def __init__(self, dsn: str, *, pool_size: int = 10) -> None:
        self._dsn = dsn
        self._pool_size = pool_size
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()

    def close(self) -> None:
        """Ends all connections at once, for good: every call raises Unavailable from now on."""
        if self._pool is not None:
            self._pool.terminate()

    async def connect(self) -> asyncpg.Connection:
        """A connection outside the pool, for the outbox relay."""
        return await self._connect(RELAY_SESSION)

    async def connect_for_readback(self) -> asyncpg.Connection:
        """A connection outside the pool, for the read-back of compacted topics."""
        return await self._connect(READBACK_SESSION)

    async def _connect(self, session: dict[str, str]) -> asyncpg.Connection:
        return await asyncpg.connect(
            self._dsn,
            timeout=_CONNECT_SECONDS,
            command_timeout=RELAY_COMMAND_SECONDS,
            server_settings=session,
        )

    async def in_transaction(self, work: Callable[[PostgresUnit], Awaitable[T]]) -> T:
        """Runs `work` in one transaction, again when Postgres rolled it back for the sake of another one.

        After a connection is lost it is not run again: whether it was committed is not known.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with self._connection() as connection, connection.transaction():
                    return await work(PostgresUnit(connection))
            except _ROLLED_BACK as error:
                log.info("postgres.rolled_back", attempt=attempt, error=str(error))
            except asyncpg.UniqueViolationError as error:
                if error.constraint_name == _NAME_INDEX:
                    raise NameTaken("another campaign of the organization has this name") from error
                raise
        raise Unavailable("the campaign is being changed by others at this moment")

    async def campaign(self, organization_id: str, campaign_id: str) -> tuple[Campaign, Account] | None:
        """A campaign with its account."""
        async with self._connection() as connection:
            row = await _campaigns.get_campaign(connection, id=campaign_id, organization_id=organization_id)
        return (campaign_from(row), read_account(row)) if row else None

    async def campaigns(self, query: ListQuery) -> list[tuple[Campaign, Account, str]]:
        """A page of campaigns with their accounts, and the sort key of each."""
        named = (
            _campaigns.list_campaigns_descending if query.descending else _campaigns.list_campaigns_ascending
        )
        async with self._connection() as connection:
            found = named(
                connection,
                organization_id=query.organization_id,
                sort=query.sort,
                statuses=query.statuses,
                types=query.types,
                channels=query.channels,
                pattern=query.pattern,
                starts_after=query.starts_after,
                starts_before=query.starts_before,
                ends_after=query.ends_after,
                ends_before=query.ends_before,
                created_after=query.created_after,
                created_before=query.created_before,
                updated_after=query.updated_after,
                after_key=query.after_key,
                after_id=query.after_id,
                page_size=query.page_size,
                with_unbilled=query.with_metrics,
            )
            rows = [row async for row in found]
        return [(campaign_from(row), read_account(row), row["sort_key"]) for row in rows]

    async def organization(self, organization_id: str) -> Organization | None:
        """An organization with its limits."""
        async with self._connection() as connection:
            row = await _organizations.get_organization(connection, id=organization_id)
        return organization_from(row) if row else None

    async def user(self, organization_id: str, user_id: str) -> User | None:
        """A user of the organization."""
        async with self._connection() as connection:
            row = await _organizations.get_user(connection, id=user_id, organization_id=organization_id)
        return user_from(row) if row else None

    async def keys(self, organization_id: str) -> list[StoredKey]:
        """All keys of an organization, in order of their making."""
        async with self._connection() as connection:
            rows = _keys.list_keys(connection, organization_id=organization_id)
            return [key_from(row) async for row in rows]

    async def unfollowed_crossings(self, before: datetime, most: int) -> list[BudgetGate]:
        """Crossings of campaigns that are not deleted, recorded before this moment and followed by nobody
        yet: as the gates that would tell of them."""
        async with self._connection() as connection:
            rows = _ledger.unfollowed_crossings(connection, before=before, most=most)
            return [unfollowed_from(row) async for row in rows]

    async def is_published(self, ids: Sequence[int]) -> bool:
        """Whether Kafka has acked these rows of the outbox."""
        async with self._connection() as connection:
            return bool(await _outbox.is_published(connection, ids=list(ids)))

    async def outbox_backlog(self) -> int:
        """How many records wait for Kafka."""
        async with self._connection() as connection:
            return int(await _outbox.outbox_backlog(connection))

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection]:
        try:
            pool = await self._opened()
            proxy = await pool.acquire(timeout=_ACQUIRE_SECONDS)
        except (*_AWAY, asyncpg.PostgresError) as error:
            raise _unavailable(error) from error
        try:
            # The proxy passes everything on to the connection that it stands for.
            yield cast("asyncpg.Connection", proxy)
        except _AWAY as error:
            if isinstance(error, ValueError):  # a value that cannot be sent: an InterfaceError too, but ours
                raise
            raise _unavailable(error) from error
        finally:
            with contextlib.suppress(*_AWAY):
                await pool.release(proxy)

    async def _opened(self) -> asyncpg.Pool:
        async with self._opening:
            if self._pool is None:
                # No connection is made here, so that the service starts while Postgres is away.
                self._pool = await asyncpg.create_pool(
                    self._dsn,
                    min_size=0,
                    max_size=self._pool_size,
                    timeout=_CONNECT_SECONDS,
                    command_timeout=_ACQUIRE_SECONDS,
                    server_settings=_SERVER_SETTINGS,
                )
        return self._pool


def _unavailable(error: Exception) -> Unavailable:
    log.warning("postgres.unavailable", error=repr(error))
    return Unavailable("the database cannot be reached at this moment")
