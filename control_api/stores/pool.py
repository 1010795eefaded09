"""Connections to Postgres, with bounded waits; and what an error of the driver means."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import cast

import asyncpg
import structlog

from control_api.errors import RolledBack, Unavailable
from sql.outbox import RELAY_COMMAND_SECONDS
from sql.sessions import keep

log = structlog.get_logger(__name__)

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
_ROLLED_BACK = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidCachedStatementError,  # a migration has changed a table: planned anew, it works
)


class Pool:
    """While Postgres is away, whoever wants a connection gets Unavailable; and one as soon as it is back."""

    def __init__(self, dsn: str, size: int) -> None:
        self._dsn = dsn
        self._size = size
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()

    def close(self) -> None:
        """Ends all connections at once, for good."""
        if self._pool is not None:
            self._pool.terminate()

    async def connect(self, session: dict[str, str]) -> asyncpg.Connection:
        """A connection outside the pool, with these settings of its session."""
        return await asyncpg.connect(
            self._dsn,
            timeout=_CONNECT_SECONDS,
            command_timeout=RELAY_COMMAND_SECONDS,
            server_settings=session,
        )

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection for the block; Unavailable when there is none, or when it is lost in the block;
        RolledBack when what the block asked for was given up, so that asking again may succeed."""
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
        except _ROLLED_BACK as error:
            log.info("postgres.rolled_back", error=str(error))
            raise RolledBack("the database is busy with another change at this moment") from error
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
                    max_size=self._size,
                    timeout=_CONNECT_SECONDS,
                    command_timeout=_ACQUIRE_SECONDS,
                    server_settings=_SERVER_SETTINGS,
                    reset=keep,
                )
        return self._pool


def _unavailable(error: Exception) -> Unavailable:
    log.warning("postgres.unavailable", error=repr(error))
    return Unavailable("the database cannot be reached at this moment")
