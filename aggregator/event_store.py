"""Event rows in ClickHouse: blocks, fenced by epoch, verified by figures, repaired if they differ.

Why a deduplication token alone is not trusted stands in ARCHITECTURE.md, "Why it is exact".
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import aiohttp
import msgspec
import numpy as np
import structlog
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError
from clickhouse_connect.driver.summary import QuerySummary

from aggregator.domain.blocks import Block
from aggregator.domain.lineage import Stretch
from aggregator.domain.rows import Lines
from aggregator.errors import FencedError, StoreError, StoreUnavailable
from aggregator.seen_segment import Ids
from schemas.events import TrackingEvent
from sql.load import clickhouse_query

log = structlog.get_logger(__name__)

_UINT64 = 1 << 64

_ONE_BLOCK_ROWS = 1 << 30
"""Above the rows of any insert, so that ClickHouse forms one block, and so one part a month, of it."""

# One insert is one block of ClickHouse's: parsed in order by one thread, and written before the answer.
_INSERT_SETTINGS: Mapping[str, int] = {
    "async_insert": 0,
    "insert_deduplicate": 1,
    "input_format_parallel_parsing": 0,
    "max_threads": 1,
    "max_insert_threads": 1,
    "max_block_size": _ONE_BLOCK_ROWS,
    "max_insert_block_size": _ONE_BLOCK_ROWS,
    "min_insert_block_size_rows": _ONE_BLOCK_ROWS,
    "min_insert_block_size_bytes": 1 << 40,
    "wait_end_of_query": 1,
    # The log's lines have what no column is made of; `data`, an object there, is a text here.
    "input_format_skip_unknown_fields": 1,
    "input_format_json_read_objects_as_strings": 1,
}

# Errors that a later attempt may not meet, by ClickHouse's codes (ErrorCodes.cpp).
_TRANSIENT = frozenset(
    {
        *(159, 160),  # TIMEOUT_EXCEEDED, TOO_SLOW
        *(202, 209, 210, 279, 425),  # TOO_MANY_SIMULTANEOUS_QUERIES, SOCKET_TIMEOUT, NETWORK_ERROR, …
        *(241, 243),  # MEMORY_LIMIT_EXCEEDED, NOT_ENOUGH_SPACE
        *(242, 285, 286, 319, 999),  # TABLE_IS_READ_ONLY, replicas, quorum, UNKNOWN_STATUS_OF_INSERT, Keeper
        *(236, 394, 745),  # ABORTED, QUERY_WAS_CANCELLED, SERVER_OVERLOADED
    }
)
_NOT_IMPLEMENTED = 48
_CERTAIN_ATTEMPTS = 4
"""All rows of a block were received in the months of its rows, as far as anybody knows; after so many
attempts that differ, ClickHouse is asked."""


class Found(msgspec.Struct, frozen=True):
    """Rows that one insert of a block left: how many, what they billed (micros), their position hash."""

    epoch: int
    attempt: int
    event_rows: int
    billed: int
    position_hash: int


class Verdict(msgspec.Struct, frozen=True):
    """What ClickHouse holds of a block, by insert; `exact` when it is what the block expects, and all of it
    was brought by the block's own (epoch, attempt)."""

    exact: bool
    found: tuple[Found, ...]

    @property
    def event_rows(self) -> int:
        return sum(each.event_rows for each in self.found)

    @property
    def billed(self) -> int:
        return sum(each.billed for each in self.found)

    def of(self, block: Block) -> Block:
        """The block with the figures of what was found of it, as the newest insert of which there is any."""
        hashed = sum(each.position_hash for each in self.found) % _UINT64
        epoch, attempt = max((each.epoch, each.attempt) for each in self.found)
        return msgspec.structs.replace(
            block,
            epoch=epoch,
            attempt=attempt,
            event_rows=self.event_rows,
            billed=self.billed,
            position_hash=hashed - _UINT64
            if hashed >= _UINT64 // 2
            else hashed,  # signed, as Postgres has it
        )


class Client(Protocol):
    """The calls of clickhouse-connect's AsyncClient that the store makes."""

    async def command(self, *args: Any, **settings: Any) -> Any:
        """A statement without rows, or an insert."""

    async def query(self, *args: Any, **settings: Any) -> Any:
        """A query with its rows."""

    async def query_column_block_stream(self, *args: Any, **settings: Any) -> Any:
        """A query whose rows come in blocks of columns."""


class EventStore:
    """The tables `events` and `fence` of one ClickHouse, or cluster.

    The client must be made with `autogenerate_session_id=False` (several inserts run at the same time); a
    cluster's settings (`insert_quorum`, `select_sequential_consistency`) belong to it too. Every method
    raises StoreUnavailable when ClickHouse could not be asked or did not answer, so that what was asked may
    have been done or not, and StoreError when it refused.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def raise_fence(self, partition: int, epoch: int, owner: str) -> None:
        """Refuses from now on all inserts of older epochs of this partition, and ends those that still run.

        Called by a new owner before it verifies or inserts anything. Blocks of other partitions in an insert
        that is ended are mended by their owner. An insert that can't be ended (where KILL QUERY is not
        supported) may still arrive: the verification a minute later finds it.
        """
        parameters = {"partition": partition, "epoch": epoch, "owner": owner}
        settings = {"async_insert": 0, "wait_end_of_query": 1}
        async with _refusals():
            await self._client.command(clickhouse_query("raise_fence"), parameters, settings=settings)
        try:
            async with _refusals():
                await self._client.query(
                    clickhouse_query("kill_older_inserts"),
                    {"partition": partition, "epoch": epoch},
                )
        except StoreError as error:
            if not isinstance(error, _NotSupported):
                raise
            log.warning("older inserts can't be ended here", partition=partition, reason=str(error))

    async def insert(self, block: Block, rows: Lines) -> None:
        """Stores the rows as an insert of its own, marked with the block's epoch and attempt.

        FencedError when a newer epoch was raised, and then nothing was stored. StoreError also when
        ClickHouse wrote another number of rows than it was given; after it, as after StoreUnavailable, the
        caller verifies. A second insert with the same attempt is dropped by its token as a rule, but not
        always: whoever inserts again verifies too.
        """
        if rows.count:
            require_own_epoch(block, await self.insert_all([(block, rows)]))

    async def insert_all(self, blocks: Sequence[tuple[Block, Lines]]) -> Mapping[int, int]:
        """Stores blocks of different partitions as one insert, which costs ClickHouse as much for all as for
        one. What `insert` says holds, but for this: returns the epochs of partitions that have a newer one,
        of whose blocks nothing was stored. StoreError is about all of them.
        """
        identity = query_id(*(block for block, _ in blocks))
        settings = {**_INSERT_SETTINGS, "query_id": identity, "insert_deduplication_token": identity}
        async with _refusals():
            summary = await self._client.command(
                clickhouse_query("insert_blocks"),
                _columns([block for block, _ in blocks]),
                b"".join([rows.content for _, rows in blocks]),
                settings,
            )
        written = summary.written_rows if isinstance(summary, QuerySummary) else 0
        expected = sum(rows.count for _, rows in blocks)
        if written == expected:
            return {}
        fences = await self._fences([block.partition for block, _ in blocks])
        newer = {
            block.partition: fences[block.partition]
            for block, _ in blocks
            if fences.get(block.partition, 0) > block.epoch
        }
        if written != sum(rows.count for block, rows in blocks if block.partition not in newer):
            raise StoreError(f"{identity}: ClickHouse wrote {written} rows of {expected}")
        return newer

    async def fence(self, partition: int) -> int:
        """The newest epoch of the partition; 0 when none was raised."""
        return (await self._fences([partition])).get(partition, 0)

    async def _fences(self, partitions: Sequence[int]) -> dict[int, int]:
        rows = await self._rows("fences", {"partitions": list(partitions)})
        return {int(partition): int(epoch) for partition, epoch in rows}

    async def verify(self, block: Block) -> Verdict:
        """Compares what is stored of the block with its figures; reads a projection, not the rows."""
        rows = await self._rows("verify_block", _coordinates(block))
        return judge(block, [Found(*(int(value) for value in row)) for row in rows])

    async def verify_all(self, blocks: Sequence[Block]) -> list[Verdict]:
        """`verify` for many blocks of one partition, which ascend by number, in one query."""
        rows = await self._rows(
            "verify_blocks",
            {
                "partition": blocks[0].partition,
                "first_block": blocks[0].block,
                "last_block": blocks[-1].block,
            },
        )
        found: dict[tuple[int, int], list[Found]] = {}
        for incarnation, block, *figures in rows:
            of_block = found.setdefault((int(incarnation), int(block)), [])
            of_block.append(Found(*(int(value) for value in figures)))
        return [judge(block, found.get((block.incarnation, block.block), ())) for block in blocks]

    async def repair(self, block: Block, rows: Lines) -> None:
        """Deletes what inserts below the block's own (epoch, attempt) left of it, on all replicas.

        `rows` are the block's: only the months in which they were received are looked through, and all others
        once that has not helped. The caller has raised the attempt in the block's record before, and inserts
        the block again after. A newer owner's rows stay, and after its fence all rows do: a process that
        wakes up late can delete nothing that counts.
        """
        parameters = {**_coordinates(block), "epoch": block.epoch, "attempt": block.attempt}
        months = set(rows.months)
        if block.attempt > _CERTAIN_ATTEMPTS:
            months |= {int(row[0]) for row in await self._rows("months_of_block", _coordinates(block))}
        for month in sorted(months):
            async with _refusals():
                await self._client.command(
                    clickhouse_query("repair_block"),
                    {**parameters, "month": month},
                    settings={"mutations_sync": 2, "allow_nondeterministic_mutations": 1},
                )
        log.warning("deleted what was wrong of a block", months=sorted(months), **parameters)

    async def counted(self, partition: int, stretch: Stretch, since: int) -> AsyncGenerator[Ids, None]:
        """Ids of all events stored of a range that were received at `since` (epoch ms) or later, and when, in
        the order of the log, some ten thousands at a time; the next ones come while these are worked on. To
        be closed (`aclosing`).

        Looks at every row received since then, once: for the rare case that nothing else knows.
        """
        async with _refusals():
            blocks = await self._client.query_column_block_stream(
                clickhouse_query("counted_between"),
                {"partition": partition, "since": since, **msgspec.structs.asdict(stretch)},
            )
            async with blocks:
                async for columns in blocks:
                    yield Ids(*(np.asarray(column, np.uint64) for column in columns))

    async def which_counted(self, events: Sequence[TrackingEvent], since: int) -> set[tuple[str, str, str]]:
        """(organization, campaign, eventId) of those stored, received at `since` (epoch ms) or later."""
        rows = await self._rows(
            "counted_ids",
            {
                "campaigns": sorted({event.campaign_id for event in events}),
                "event_ids": [event.event_id for event in events],
                "since": since,
            },
        )
        return {(str(organization), str(campaign), str(event)) for organization, campaign, event in rows}

    async def started_at(self) -> int:
        """Epoch seconds at which the server started, exact to a second or two.

        A value that rose by more than that is a restart: blocks stored shortly before it are verified again.
        """
        return int((await self._rows("started_at", {}))[0][0])

    async def _rows(self, name: str, parameters: dict[str, Any]) -> Sequence[Sequence[Any]]:
        async with _refusals():
            result = await self._client.query(clickhouse_query(name), parameters)
        rows: Sequence[Sequence[Any]] = result.result_rows
        return rows


def query_id(*blocks: Block) -> str:
    """The id of an insert and its deduplication token: unique to the attempts, readable for KILL QUERY."""
    each = (
        f"{block.partition}-{block.incarnation}-{block.block}-{block.epoch}-{block.attempt}"
        for block in blocks
    )
    return f"flightline-{'_'.join(each)}"


def require_own_epoch(block: Block, newer: Mapping[int, int]) -> None:
    """FencedError when `insert_all` has found a newer epoch of the block's partition."""
    if (newest := newer.get(block.partition)) is not None:
        raise FencedError(f"partition {block.partition} is at epoch {newest}, not {block.epoch}")


def judge(block: Block, found: Sequence[Found]) -> Verdict:
    """Whether these rows are the block: none missing, none doubled, none of another block or attempt. Pure.

    Rows of a lower attempt may be all that is wanted, and still be lost: the deletion that the block's own
    attempt has sent for them, and whose answer was lost, may run at any time. So they don't count.
    """
    figures = (
        sum(each.event_rows for each in found),
        sum(each.billed for each in found),
        sum(each.position_hash for each in found) % _UINT64,
    )
    expected = (block.event_rows, block.billed, block.position_hash % _UINT64)
    is_own = all((each.epoch, each.attempt) == (block.epoch, block.attempt) for each in found)
    return Verdict(exact=is_own and figures == expected, found=tuple(found))


def _columns(blocks: Sequence[Block]) -> dict[str, list[int]]:
    return {
        "partitions": [block.partition for block in blocks],
        "incarnations": [block.incarnation for block in blocks],
        "blocks": [block.block for block in blocks],
        "epochs": [block.epoch for block in blocks],
        "attempts": [block.attempt for block in blocks],
    }


def _coordinates(block: Block) -> dict[str, Any]:
    return {"partition": block.partition, "incarnation": block.incarnation, "block": block.block}


class _NotSupported(StoreError):
    """This ClickHouse does not know the statement (an embedded one knows less)."""


@asynccontextmanager
async def _refusals() -> AsyncIterator[None]:
    """Turns the errors of the driver and of the network into the store's own."""
    try:
        yield
    except (OperationalError, aiohttp.ClientError, OSError, TimeoutError) as error:
        raise StoreUnavailable(str(error)) from error
    except ClickHouseError as error:
        # ClickHouse answers most refusals with 500 and a code; without one, a proxy or a dying server spoke.
        code = getattr(error, "code", None)
        if code is None or code in _TRANSIENT:
            raise StoreUnavailable(str(error)) from error
        raise (_NotSupported if code == _NOT_IMPLEMENTED else StoreError)(str(error)) from error
