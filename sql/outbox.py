"""The relay of a transactional outbox: what a transaction committed reaches Kafka, in order, at least once.

Both the ledger and the control schema have an `outbox` table of one shape (id, topic, key, value, partition).
One relay drains it at a time (a session's advisory lock), because two could overtake each other and leave an
older value as the last one of a compacted key. A row is deleted only after Kafka has acked it, so a crash in
between publishes it again: consumers compare versions.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

import asyncpg
import structlog

log = structlog.get_logger(__name__)

_BATCH = 500
_IDLE_SECONDS = 1.0
_RETRY_SECONDS = 0.5
_PUBLISH_SECONDS = 20.0
"""Below the session's timeout: who waits longer for Kafka asks Postgres whether it still holds the lock."""

RELAY_SESSION = {
    "application_name": "flightline-outbox",
    "idle_session_timeout": "30s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
"""Server settings of a relay: Postgres ends the session of one that is frozen or cut off, and
so frees its lock for another one. A relay that lives asks more often."""

RELAY_COMMAND_SECONDS = 10.0
"""For the client's side of the same: a connection that was dropped without a word answers nothing."""


class Publish(Protocol):
    """Sends one record; returns when all in-sync replicas have it, raises when that is not known.

    A value of None is a tombstone.

    Called for several records at once: those of one partition must be sent in the order of the calls.
    """

    async def __call__(
        self, topic: str, *, key: bytes | None, value: bytes | None, partition: int | None
    ) -> None: ...


class OutboxRelay:
    """Drains `SCHEMA.outbox`. `wake()` after a commit spares the wait for the next look.

    `connect` opens a connection of the relay's own: the advisory lock lives as long as its session. Errors of
    Postgres and Kafka are logged and retried for ever; nothing is skipped.
    """

    def __init__(self, connect: "Connect", schema: str, publish: Publish) -> None:
        self._connect = connect
        self._schema = schema
        self._publish = publish
        self._wake = asyncio.Event()
        self._finish = asyncio.Event()

    def wake(self) -> None:
        """Says that there is something to publish."""
        self._wake.set()

    def finish(self) -> None:
        """Asks `run` to end once nothing is left, which is never while Kafka or Postgres is away."""
        self._finish.set()
        self._wake.set()

    async def run(self) -> None:
        """Runs until cancelled, or until `finish` was called and the outbox is empty."""
        while not self._finish.is_set():
            try:
                await self._hold_and_drain()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
                log.warning("outbox.postgres_unavailable", schema=self._schema, error=str(error))
                await _is_set(self._finish, _RETRY_SECONDS)

    async def _hold_and_drain(self) -> None:
        connection = await self._connect()
        try:
            await connection.add_listener(self._channel, lambda *_: self._wake.set())
            while not await connection.fetchval("SELECT pg_try_advisory_lock(hashtext($1))", self._channel):
                if await _is_set(self._finish, _IDLE_SECONDS):
                    return
            log.info("outbox.draining", schema=self._schema)
            while True:
                self._wake.clear()
                while await self._drain(connection):
                    pass
                if self._finish.is_set():
                    return
                await _is_set(self._wake, _IDLE_SECONDS)
        finally:
            connection.terminate()

    @property
    def _channel(self) -> str:
        return f"{self._schema}_outbox"

    async def _drain(self, connection: asyncpg.Connection) -> bool:
        """Publishes the oldest rows; True when there may be more."""
        rows = await connection.fetch(
            f"SELECT id, topic, key, value, partition FROM {self._schema}.outbox ORDER BY id LIMIT $1",  # noqa: S608  our own schema's name
            _BATCH,
        )
        results = await _within(
            _PUBLISH_SECONDS,
            [
                self._publish(row["topic"], key=row["key"], value=row["value"], partition=row["partition"])
                for row in rows
            ],
        )
        # Only what stands before the first failure is done: what was sent after it is sent again, so that the
        # newest value of a key is also the last one written.
        failed = next((i for i, result in enumerate(results) if result is not None), len(rows))
        sent = [row["id"] for row in rows[:failed]]
        if failed < len(rows):
            log.warning("outbox.publish_failed", schema=self._schema, error=str(results[failed]))
            await asyncio.sleep(_RETRY_SECONDS)
        if sent:
            await connection.execute(f"DELETE FROM {self._schema}.outbox WHERE id = ANY($1::bigint[])", sent)  # noqa: S608  our own schema's name
        return len(rows) == _BATCH or len(sent) < len(rows)


async def _is_set(event: asyncio.Event, seconds: float) -> bool:
    """Waits so long at most; whether it is set then."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


async def _within(seconds: float, works: Sequence[Coroutine[Any, Any, None]]) -> list[BaseException | None]:
    """Runs all at the same time; the error of each, a TimeoutError where it took longer."""

    async def bounded(work: Coroutine[Any, Any, None]) -> None:
        async with asyncio.timeout(seconds):
            await work

    return await asyncio.gather(*(bounded(work) for work in works), return_exceptions=True)


class Connect(Protocol):
    """Opens a connection to Postgres."""

    async def __call__(self) -> asyncpg.Connection: ...
