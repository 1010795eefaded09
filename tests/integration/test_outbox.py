"""The relay of an outbox on a real Postgres: order, faults of Kafka, and who takes over."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest_asyncio

from sql.outbox import OutboxRelay, Publish


class Topic:
    """Keeps what is published; refuses the first tries where it is told to."""

    def __init__(self, refusals: int = 0) -> None:
        self.values: list[bytes] = []
        self._refusals = refusals

    async def publish(self, topic: str, *, key: bytes | None, value: bytes, partition: int | None) -> None:
        del topic, key, partition  # the port's arguments that no test here looks at
        if value == b"3" and self._refusals:
            self._refusals -= 1
            raise ConnectionError("the broker went away")
        self.values.append(value)


@pytest_asyncio.fixture(loop_scope="session")
async def connection(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute("TRUNCATE ledger.outbox")
    yield connection
    await connection.close()


async def add(connection: asyncpg.Connection, *values: int) -> None:
    for value in values:
        await connection.execute(
            "INSERT INTO ledger.outbox (topic, key, value) VALUES ('t', 'k', $1)", str(value).encode()
        )


@asynccontextmanager
async def relay(dsn: str, publish: Publish) -> AsyncIterator[OutboxRelay]:
    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(dsn, server_settings={"application_name": "relay"})

    running = OutboxRelay(connect, "ledger", publish)
    task = asyncio.create_task(running.run())
    yield running
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def drained(connection: asyncpg.Connection) -> None:
    async with asyncio.timeout(20):
        while await connection.fetchval("SELECT count(*) FROM ledger.outbox"):
            await asyncio.sleep(0.02)


async def test_rows_are_published_in_order_and_then_gone(
    connection: asyncpg.Connection, postgres_dsn: str
) -> None:
    topic = Topic()
    await add(connection, *range(700))
    async with relay(postgres_dsn, topic.publish):
        await drained(connection)
    assert topic.values == [str(value).encode() for value in range(700)]


async def test_a_commit_that_says_so_is_published_without_waiting_for_the_next_look(
    connection: asyncpg.Connection, postgres_dsn: str
) -> None:
    topic = Topic()
    async with relay(postgres_dsn, topic.publish) as running:
        await drained(connection)
        await add(connection, 1)
        running.wake()
        await drained(connection)
    assert topic.values == [b"1"]


async def test_after_a_refusal_the_newest_value_is_still_the_last_one_written(
    connection: asyncpg.Connection, postgres_dsn: str
) -> None:
    topic = Topic(refusals=2)
    await add(connection, *range(6))
    async with relay(postgres_dsn, topic.publish):
        await drained(connection)
    assert set(topic.values) == {str(value).encode() for value in range(6)}
    assert topic.values[-3:] == [b"3", b"4", b"5"]


async def test_one_relay_drains_at_a_time_and_goes_on_after_it_has_lost_its_session(
    connection: asyncpg.Connection, postgres_dsn: str
) -> None:
    first, second = Topic(), Topic()
    async with relay(postgres_dsn, first.publish):
        await add(connection, 1)
        await drained(connection)
        async with relay(postgres_dsn, second.publish):
            await add(connection, 2)
            await drained(connection)
            assert (first.values, second.values) == ([b"1", b"2"], [])
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'relay'"
        )
        await add(connection, 3)
        await drained(connection)
    assert first.values == [b"1", b"2", b"3"]
