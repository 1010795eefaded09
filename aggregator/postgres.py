"""Sessions of Postgres for the ledger, and what its modules share.

Every connection carries short timeouts, so that a process that is stopped in the middle of a transaction
can't hold the others up: Postgres ends it, and the compare-and-set refuses it when it wakes.
"""

from collections.abc import AsyncIterator

import asyncpg
import msgspec

from aggregator.errors import FencedError
from sql.sessions import keep

RETRYABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.exceptions.SerializationError,
    asyncpg.exceptions.DeadlockDetectedError,
    asyncpg.exceptions.LockNotAvailableError,
    asyncpg.exceptions.QueryCanceledError,
    asyncpg.exceptions.IdleInTransactionSessionTimeoutError,
    asyncpg.exceptions.TransactionTimeoutError,
    asyncpg.exceptions.ReadOnlySQLTransactionError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.exceptions.CannotConnectNowError,
)
"""Errors after which the ledger is read again and the same is tried once more."""

_SESSION = {
    "application_name": "flightline-aggregator",
    "idle_in_transaction_session_timeout": "2s",
    "transaction_timeout": "5s",
    "lock_timeout": "3s",
    "timezone": "UTC",
}
_COMMAND_SECONDS = 10


class Claim(msgspec.Struct, frozen=True):
    """A partition as its owner found it in the ledger."""

    partition: int
    incarnation: int
    epoch: int
    next_offset: int
    blocked_offset: int
    next_block: int
    last_record_hash: bytes | None


async def connect_pool(dsn: str, size: int) -> asyncpg.Pool:
    """A pool whose sessions carry the ledger's timeouts. Opens connections when they are needed first."""
    return await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=size,
        command_timeout=_COMMAND_SECONDS,
        server_settings=_SESSION,
        reset=keep,
    )


async def fetch(rows: AsyncIterator[asyncpg.Record]) -> list[asyncpg.Record]:
    """All rows of a query; aiosql gives them one by one."""
    return [row async for row in rows]


def changed_rows(changed: str) -> int:
    """asyncpg answers with the command's tag, such as `UPDATE 1`."""
    return int(changed.rpartition(" ")[2])


def require_owner(changed: str, partition: int, epoch: int) -> None:
    """FencedError when a command that is for the owner has changed no row."""
    if changed_rows(changed) != 1:
        raise not_the_owner(partition, epoch)


def not_the_owner(partition: int, epoch: int) -> FencedError:
    """What to raise for `epoch` when the ledger knows another owner."""
    return FencedError(f"partition {partition} has gone on without epoch {epoch}")
