"""Keeps compacted topics at or above Postgres: reads them back, and publishes again whatever is below it.

Compaction keeps the last write of a key, not its highest version. A publisher that was stalled between
reading its outbox and sending can leave an older value as the last one for good, and a topic that was lost
holds nothing. So one process at a time (a session's advisory lock, as for the relay) reads the topics whole,
follows them, and compares the version of each key's last value with the one in Postgres.

A value that has to be published again goes through the outbox, written under the lock of its row: so it can't
overtake a change, and a crash in between leaves it to the next read-back.
Memory: about 300 bytes a key (tests/bench/readback.py).
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import asyncpg
import msgspec
import structlog
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError

from sql.compacted_log import CompactedLog, TopicReplaced
from sql.outbox import RELAY_SESSION, Connect

log = structlog.get_logger(__name__)

PAGE = 200
"""Keys that are looked up, or published again, at a time."""

_MOST_WAITING = 50
"""While an outbox holds more than this nothing is added to it: a change that somebody waits for stands behind
a page at most."""

READBACK_SESSION = RELAY_SESSION | {
    "application_name": "flightline-readback",
    "lock_timeout": "2s",
    "statement_timeout": "10s",
    "idle_in_transaction_session_timeout": "2s",
}
"""Server settings of a connection that a read-back opens."""

_LOCK = "readback"
_WAIT_SECONDS = 2.0
_RETRY_SECONDS = 1.0
_LOOK_SECONDS = 1.0
_BUSY_SECONDS = 0.1
_WHOLE_SECONDS = 600.0
"""So often the topics are read anew from their starts: finds what following them can't, such as a topic that
was made anew and has grown past the place that was reached in the old one."""


class Stand(msgspec.Struct, frozen=True):
    """What Postgres says of a key: the version that the topic must hold (None: a tombstone), and whether an
    outbox holds a record of the key that is still to come."""

    key: str
    version: int | None
    pending: bool


class Truth(Protocol):
    """One compacted topic as Postgres knows it; every method runs on the read-back's own connection."""

    @property
    def topic(self) -> str: ...

    async def page(self, connection: asyncpg.Connection, after: str, most: int) -> list[Stand]:
        """The keys above `after` ("" for the first page), in their order."""

    async def stands(self, connection: asyncpg.Connection, keys: Sequence[str]) -> list[Stand]:
        """These keys; one that Postgres does not know is left out."""

    async def publish_again(self, connection: asyncpg.Connection, stands: Sequence[Stand]) -> None:
        """Puts the present values of these keys into the outbox, under locks of their rows."""

    async def waiting(self, connection: asyncpg.Connection, most: int) -> int:
        """How many records the topic's outbox holds, counted up to `most`."""


class ReadBack:
    """Reads the topics of `truths` back for as long as it runs.

    `connect` opens a connection of its own (READBACK_SESSION). `on_repair` hears of a topic and how many of
    its values are published again. Faults of Kafka and Postgres are logged and retried for ever.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        connect: Connect,
        truths: Sequence[Truth],
        on_repair: Callable[[str, int], None],
    ) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._connect = connect
        self._truths = truths
        self._on_repair = on_repair

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            try:
                await self._hold_and_read()
            except (
                OSError,
                TimeoutError,
                KafkaError,
                TopicReplaced,
                asyncpg.PostgresError,
                asyncpg.InterfaceError,
            ) as error:
                log.warning("readback.interrupted", error=repr(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def _hold_and_read(self) -> None:
        connection = await self._connect()
        try:
            while not await connection.fetchval("SELECT pg_try_advisory_lock(hashtext($1))", _LOCK):
                await asyncio.sleep(_WAIT_SECONDS)
            log.info("readback.reading")
            while True:
                await self._read_whole_and_follow(connection)
        finally:
            connection.terminate()

    async def _read_whole_and_follow(self, connection: asyncpg.Connection) -> None:
        tables = {truth.topic: _Table(truth) for truth in self._truths}

        def take(record: "ConsumerRecord[bytes, bytes]") -> None:
            tables[record.topic].take(record)

        async def alive() -> None:  # Postgres ends the session of one that says nothing
            await connection.fetchval("SELECT 1")

        async with CompactedLog(self._bootstrap_servers, list(tables), take, alive) as topics:
            await topics.read_to_end()
            for table in tables.values():
                table.suspects.clear()  # the pages that follow compare all of them
            until = time.monotonic() + _WHOLE_SECONDS
            busy = True
            while time.monotonic() < until:
                await topics.poll(_BUSY_SECONDS if busy else _LOOK_SECONDS)
                busy = False
                for table in tables.values():
                    busy |= await self._compare(connection, topics, table)

    async def _compare(self, connection: asyncpg.Connection, topics: CompactedLog, table: "_Table") -> bool:
        """Compares some keys with Postgres and publishes again what is below; True when more are to come."""
        if await table.truth.waiting(connection, _MOST_WAITING + 1) > _MOST_WAITING:
            return table.after is not None
        stands = await table.next_stands(connection)
        below = [stand for stand in stands if not table.is_right(stand)]
        # What an outbox holds is on its way: looked at again until it has come.
        table.suspects.update(stand.key for stand in below if stand.pending)
        below = [stand for stand in below if not stand.pending]
        if below:
            # What left the outbox before Postgres was asked stands in the topic by now.
            await topics.read_to_end()
            below = [stand for stand in below if not table.is_right(stand)]
        if below:
            await self._publish_again(connection, table, below)
        return table.after is not None or len(table.suspects) >= PAGE

    async def _publish_again(
        self, connection: asyncpg.Connection, table: "_Table", below: Sequence[Stand]
    ) -> None:
        try:
            async with connection.transaction():
                await table.truth.publish_again(connection, below)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            table.suspects.update(stand.key for stand in below)
            log.info("readback.rows_are_locked", topic=table.truth.topic, error=str(error))
            return
        self._on_repair(table.truth.topic, len(below))
        log.warning(
            "readback.published_again", topic=table.truth.topic, values=len(below), first=below[0].key
        )


class _Versioned(msgspec.Struct):
    version: int


class _Table:
    """The last version of each key of one topic, and the keys that are to be compared with Postgres."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.suspects: set[str] = set()
        self.after: str | None = ""
        """Up to which key all that Postgres has was compared; None at its end."""
        self._last: dict[bytes, int] = {}
        self._decoder = msgspec.json.Decoder(_Versioned)

    def take(self, record: "ConsumerRecord[bytes, bytes]") -> None:
        """A record of the topic, in the order of the log. What can't be decoded is no value: the one in
        Postgres is published over it."""
        key = record.key or b""
        try:
            self._last[key] = self._decoder.decode(record.value or b"").version
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self._last.pop(key, None)
        self.suspects.add(key.decode(errors="replace"))

    def is_right(self, stand: Stand) -> bool:
        """A topic that is ahead of Postgres stays as it is: readers would take nothing lower."""
        last = self._last.get(stand.key.encode())
        if stand.version is None:
            return last is None
        return last is not None and last >= stand.version

    async def next_stands(self, connection: asyncpg.Connection) -> list[Stand]:
        """A page of all keys, while that lasts; afterwards those of which a record has come."""
        if self.after is not None:
            page = await self.truth.page(connection, self.after, PAGE)
            self.after = page[-1].key if len(page) == PAGE else None
            return page
        keys = [key for _, key in zip(range(PAGE), self.suspects, strict=False)]
        self.suspects.difference_update(keys)
        return await self.truth.stands(connection, keys) if keys else []
