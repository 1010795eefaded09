"""The event store on a real ClickHouse: exact, fenced, verified, repaired; also through kill -9."""

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import clickhouse_connect
import msgspec
import pytest
import pytest_asyncio
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import DatabaseError

from aggregator.domain.blocks import Block, position_hash
from aggregator.domain.lineage import Stretch
from aggregator.domain.rows import Charged, EventRow, lines_of
from aggregator.errors import FencedError, StoreError, StoreUnavailable
from aggregator.event_store import EventStore, query_id
from aggregator.seen_ids import key_of
from aggregator.seen_segments import halves
from schemas.events import INDEX_BITS
from tests.integration.rows import NOW, charged, row
from tests.running import RunningStack

ROWS = 1_000
DEADLINE_S = 60


def a_block(partition: int, number: int, rows: Sequence[Charged], epoch: int = 1, attempt: int = 1) -> Block:
    return Block(
        partition=partition,
        incarnation=0,
        block=number,
        first_offset=rows[0].position >> INDEX_BITS,
        next_offset=(rows[-1].position >> INDEX_BITS) + 1,
        event_rows=len(rows),
        billed=sum(each.billed for each in rows),
        position_hash=position_hash(each.position for each in rows),
        epoch=epoch,
        attempt=attempt,
    )


def block_rows(partition: int, number: int, count: int = ROWS) -> list[Charged]:
    """Rows of the offsets from `number * 1000` on, 500 to a record."""
    return [
        charged(row(partition, number * 1_000 + n // 500, n % 500, cost=3 + n, billed=2 + n, overdelivery=1))
        for n in range(count)
    ]


def again(block: Block) -> Block:
    return msgspec.structs.replace(block, attempt=block.attempt + 1)


async def connect(url: str) -> AsyncClient:
    return await clickhouse_connect.get_async_client(dsn=url, autogenerate_session_id=False)


@pytest_asyncio.fixture
async def client(clickhouse_url: str) -> AsyncIterator[AsyncClient]:
    client = await connect(clickhouse_url)
    yield client
    await client.close()


@pytest.fixture
def store(client: AsyncClient) -> EventStore:
    return EventStore(client)


@pytest.fixture
def partition() -> int:
    """A partition that no other test of this module uses."""
    return uuid.uuid4().int % 60_000


async def test_a_block_is_stored_exactly(store: EventStore, partition: int) -> None:
    rows = block_rows(partition, 7)
    block = a_block(partition, 7, rows, epoch=4, attempt=2)
    await store.raise_fence(partition, 4, "owner")
    await store.insert(block, lines_of(partition, rows))

    verdict = await store.verify(block)
    assert verdict.exact
    assert [(each.epoch, each.attempt, each.event_rows) for each in verdict.found] == [(4, 2, ROWS)]
    assert verdict.billed == block.billed


async def test_counted_ids_come_in_the_order_of_the_log_with_the_keys_that_they_are_known_by(
    store: EventStore, partition: int
) -> None:
    names = ["", "plain", "näme \"'\\\n\t\0 é 🎈", "x" * 500]
    rows = [
        charged(row(partition, 6 + n // 2, n % 2, event_id=name, received_at=NOW + n))
        for n, name in enumerate(names)
    ]
    await store.insert(a_block(partition, 1, rows), lines_of(partition, rows[::-1]))

    (found,) = [ids async for ids in store.counted(partition, Stretch(0, 6, 8), NOW)]
    prefixes, suffixes = halves([key_of(each.event.organization_id, each.event.event_id) for each in rows])
    assert found.prefixes.tolist() == prefixes.tolist()
    assert found.suffixes.tolist() == suffixes.tolist()
    assert found.positions.tolist() == [each.position for each in rows]
    assert found.ats.tolist() == [each.event.received_at for each in rows]

    (found,) = [ids async for ids in store.counted(partition, Stretch(0, 6, 7), NOW + 1)]
    assert found.positions.tolist() == [6 << INDEX_BITS | 1]


async def test_every_field_arrives_as_it_was_sent(
    store: EventStore, client: AsyncClient, partition: int
) -> None:
    sent = row(
        partition,
        5,
        499,
        event_id="näme \"'\\\n\t\0 é 🎈",
        occurred_at=1_234_567_890_123,
        received_at=NOW + 1,
        data='{"sku": "A\\"1", "n": [1, 2.5]}',
        url="https://shop.example/?q=a%20b&c='d'",
        billable=False,
        reason="BOT",
        bot=True,
        cost=9_000_000_000_000_000,
        billed=9_000_000_000_000_000,
        revenue=1,
        revenue_verified=True,
        budget_version=2**32 - 1,
    )
    await store.insert(a_block(partition, 1, [charged(sent)]), lines_of(partition, [charged(sent)]))

    columns = ", ".join(EventRow.__struct_fields__)
    result = await client.query(
        f"SELECT {columns}, block, epoch, attempt FROM events WHERE partition = {{partition:UInt16}}",  # noqa: S608 - our own names
        {"partition": partition},
    )
    stored = dict(zip(result.column_names, result.first_row, strict=True))
    assert (stored.pop("block"), stored.pop("epoch"), stored.pop("attempt")) == (1, 1, 1)
    for name in ("occurred_at", "received_at"):
        stored[name] = round(stored[name].timestamp() * 1000)
    for name in ("organization_id", "campaign_id"):
        stored[name] = str(stored[name])
    assert stored == msgspec.structs.asdict(sent)


async def test_a_block_of_two_months_is_stored_exactly(store: EventStore, partition: int) -> None:
    rows = [charged(row(partition, n, 0, received_at=NOW - n * 24 * 3600 * 1000)) for n in range(62)]
    block = a_block(partition, 1, rows)
    await store.insert(block, lines_of(partition, rows))
    assert (await store.verify(block)).exact


async def test_a_block_without_rows_is_exact_without_an_insert(store: EventStore, partition: int) -> None:
    block = Block(partition, 0, 3, 10, 20, 0, 0, 0, 1, 1)
    await store.insert(block, lines_of(partition, []))
    assert (await store.verify(block)).exact


async def test_an_insert_sent_twice_leaves_the_block_exact(store: EventStore, partition: int) -> None:
    rows = block_rows(partition, 1)
    block = a_block(partition, 1, rows)
    await store.insert(block, lines_of(partition, rows))
    await store.insert(block, lines_of(partition, rows))
    assert (await store.verify(block)).exact


async def test_an_older_epoch_stores_nothing_and_is_told(store: EventStore, partition: int) -> None:
    rows = block_rows(partition, 1)
    await store.raise_fence(partition, 5, "new owner")
    with pytest.raises(FencedError, match="epoch 5"):
        await store.insert(a_block(partition, 1, rows, epoch=4), lines_of(partition, rows))
    block = a_block(partition, 1, rows, epoch=5)
    assert (await store.verify(block)).found == ()
    await store.insert(block, lines_of(partition, rows))
    assert (await store.verify(block)).exact


async def test_a_fence_stops_only_its_own_partition_and_never_falls(
    store: EventStore, partition: int
) -> None:
    await store.raise_fence(partition, 5, "owner")
    await store.raise_fence(partition, 3, "late zombie")
    assert await store.fence(partition) == 5
    assert await store.fence(partition + 1) == 0
    rows = block_rows(partition + 1, 1)
    await store.insert(a_block(partition + 1, 1, rows), lines_of(partition + 1, rows))


async def test_blocks_of_several_partitions_are_stored_exactly_by_one_insert(
    store: EventStore, client: AsyncClient, partition: int
) -> None:
    partitions = [partition, partition + 1, partition + 2]
    rows = {each: block_rows(each, 1, 100 + each % 7) for each in partitions}
    blocks = {each: a_block(each, each % 5, rows[each], epoch=each % 3, attempt=2) for each in partitions}
    assert await store.insert_all([(blocks[each], lines_of(each, rows[each])) for each in partitions]) == {}
    for each in partitions:
        assert (await store.verify(blocks[each])).exact
    parts = "SELECT uniqExact(_part) FROM events WHERE partition IN {partitions:Array(UInt16)}"
    assert (await client.query(parts, {"partitions": partitions})).first_row[0] == 1


async def test_of_several_partitions_only_those_with_a_newer_epoch_are_refused(
    store: EventStore, partition: int
) -> None:
    rows = {each: block_rows(each, 1) for each in (partition, partition + 1)}
    await store.raise_fence(partition, 4, "owner")
    await store.raise_fence(partition + 1, 5, "new owner")
    blocks = [a_block(each, 1, rows[each], epoch=4) for each in rows]
    given = [(block, lines_of(block.partition, rows[block.partition])) for block in blocks]
    assert await store.insert_all(given) == {partition + 1: 5}
    assert [(await store.verify(block)).event_rows for block in blocks] == [ROWS, 0]


async def test_a_new_owner_ends_the_inserts_of_older_ones(
    store: EventStore, client: AsyncClient, partition: int
) -> None:
    def running(blocks: Sequence[Block]) -> "asyncio.Task[Any]":
        # Stands for an insert that hangs: only its id counts.
        slow = "SELECT sum(sleepEachRow(0.05)) FROM numbers(600) SETTINGS max_block_size = 1"
        return asyncio.create_task(client.query(slow, settings={"query_id": query_id(*blocks)}))

    rows = block_rows(partition, 1, 1)
    other = a_block(partition + 1, 1, rows, epoch=9)
    inserts = [
        [a_block(partition, 1, rows, epoch=9)],
        [other, a_block(partition, 1, rows, epoch=8)],
        [a_block(partition, 1, rows, epoch=10)],
        [other],
    ]
    old, joint, current, others = map(running, inserts)
    await under_way(client, [query_id(*blocks) for blocks in inserts])

    await store.raise_fence(partition, 10, "new owner")
    for ended in (old, joint):
        with pytest.raises(DatabaseError, match="QUERY_WAS_CANCELLED"):
            await asyncio.wait_for(ended, DEADLINE_S)
    assert not current.done()
    assert not others.done()
    await store.raise_fence(partition, 11, "test")
    await store.raise_fence(partition + 1, 11, "test")
    await asyncio.wait_for(asyncio.gather(current, others, return_exceptions=True), 10)


async def under_way(client: AsyncClient, ids: list[str]) -> None:
    """Waits until all of these queries run; the embedded engine keeps a client's query id as log_comment."""
    running = "SELECT count() FROM system.processes WHERE Settings['log_comment'] IN {ids:Array(String)}"
    async with asyncio.timeout(DEADLINE_S):
        while (await client.query(running, {"ids": ids})).first_row[0] < len(ids):
            await asyncio.sleep(0.02)


async def test_missing_rows_are_seen_and_mended(store: EventStore, partition: int) -> None:
    rows = block_rows(partition, 1)
    block = a_block(partition, 1, rows)
    await store.insert(block, lines_of(partition, rows[:-1]))
    verdict = await store.verify(block)
    assert not verdict.exact
    assert verdict.event_rows == ROWS - 1
    await mend(store, block, rows)


async def test_doubled_rows_are_seen_and_mended(store: EventStore, partition: int) -> None:
    rows = block_rows(partition, 1)
    block = again(a_block(partition, 1, rows))
    await store.insert(msgspec.structs.replace(block, attempt=1), lines_of(partition, rows))
    await store.insert(block, lines_of(partition, rows))
    verdict = await store.verify(block)
    assert not verdict.exact
    assert verdict.event_rows == 2 * ROWS
    await mend(store, block, rows)


async def test_one_row_in_the_place_of_another_is_seen_by_its_position(
    store: EventStore, partition: int
) -> None:
    rows = block_rows(partition, 1)
    block = a_block(partition, 1, rows)
    wrong = [*rows[:-1], msgspec.structs.replace(rows[-1], position=rows[-1].position + 1)]
    await store.insert(block, lines_of(partition, wrong))
    assert not (await store.verify(block)).exact
    await mend(store, block, rows)


async def test_another_amount_is_seen(store: EventStore, partition: int) -> None:
    rows = block_rows(partition, 1)
    block = a_block(partition, 1, rows)
    dearer = [msgspec.structs.replace(rows[0], billed=rows[0].billed + 1), *rows[1:]]
    await store.insert(block, lines_of(partition, dearer))
    assert not (await store.verify(block)).exact


async def test_a_repair_touches_neither_other_blocks_nor_newer_inserts(
    store: EventStore, partition: int
) -> None:
    rows, others = block_rows(partition, 1), block_rows(partition, 2)
    newer, other = a_block(partition, 1, rows, epoch=3), a_block(partition, 2, others)
    await store.insert(newer, lines_of(partition, rows))
    await store.insert(other, lines_of(partition, others))
    for late in (a_block(partition, 1, rows, epoch=2, attempt=9), newer):
        await store.repair(late, lines_of(partition, rows))
    assert (await store.verify(newer)).exact
    assert (await store.verify(other)).exact


async def test_a_repair_of_an_older_epoch_deletes_nothing(store: EventStore, partition: int) -> None:
    rows = block_rows(partition, 1)
    block = a_block(partition, 1, rows, epoch=2)
    await store.insert(block, lines_of(partition, rows))
    await store.raise_fence(partition, 3, "new owner")
    await store.repair(again(block), lines_of(partition, rows))
    assert (await store.verify(block)).exact


async def test_rows_of_another_month_than_the_block_has_are_found_in_the_end(
    store: EventStore, partition: int
) -> None:
    rows = block_rows(partition, 1, 10)
    block = a_block(partition, 1, rows)
    astray = [charged(row(partition, 77, 0, received_at=NOW - 90 * 24 * 3600 * 1000))]
    await store.insert(block, lines_of(partition, [*rows, *astray]))
    await store.repair(msgspec.structs.replace(block, attempt=2), lines_of(partition, rows))
    assert [each.event_rows for each in (await store.verify(block)).found] == [1]
    last = msgspec.structs.replace(block, attempt=5)
    await store.repair(last, lines_of(partition, rows))
    await store.insert(last, lines_of(partition, rows))
    assert (await store.verify(last)).exact


async def test_a_deletion_that_arrives_late_deletes_nothing_that_was_found_exact(
    store: EventStore, partition: int
) -> None:
    """The first insert lost its answer and arrived; so did the second attempt's deletion, later still."""
    rows = block_rows(partition, 1)
    first = a_block(partition, 1, rows)
    second = again(first)
    await store.insert(first, lines_of(partition, rows))
    if not (await store.verify(second)).exact:
        await store.insert(second, lines_of(partition, rows))
    await store.repair(second, lines_of(partition, rows))
    assert (await store.verify(second)).exact


async def test_a_refused_row_is_an_error_and_stores_nothing(store: EventStore, partition: int) -> None:
    rows = [charged(row(partition, 0, 0)), charged(row(partition, 0, 1, campaign_id="not a uuid"))]
    block = a_block(partition, 1, rows)
    with pytest.raises(StoreError):
        await store.insert(block, lines_of(partition, rows))
    assert (await store.verify(block)).found == ()


async def test_verification_reads_the_projection(
    client: AsyncClient, store: EventStore, partition: int
) -> None:
    rows = block_rows(partition, 1)
    await store.insert(a_block(partition, 1, rows), lines_of(partition, rows))
    client.set_client_setting("force_optimize_projection", 1)
    client.set_client_setting("force_optimize_projection_name", "by_block")
    assert (await store.verify(a_block(partition, 1, rows))).exact


async def test_many_blocks_are_verified_by_one_query_that_reads_the_projection(
    client: AsyncClient, store: EventStore, partition: int
) -> None:
    blocks = []
    for number in range(2, 8):
        rows = block_rows(partition, number, 100)
        blocks.append(a_block(partition, number, rows))
        await store.insert(blocks[-1], lines_of(partition, rows[:-1] if number == 4 else rows))
    blocks[-1] = msgspec.structs.replace(blocks[-1], incarnation=1)
    client.set_client_setting("force_optimize_projection", 1)
    client.set_client_setting("force_optimize_projection_name", "by_block")
    verdicts = await store.verify_all(blocks)
    assert [verdict.exact for verdict in verdicts] == [True, True, False, True, True, False]
    assert [verdict.event_rows for verdict in verdicts] == [100, 100, 99, 100, 100, 0]


async def test_the_start_of_the_server_is_known(store: EventStore) -> None:
    first = await store.started_at()
    assert abs(await store.started_at() - first) <= 2
    assert first * 1000 > NOW - 24 * 3600 * 1000


async def mend(store: EventStore, block: Block, rows: Sequence[Charged]) -> Block:
    """What settling does with a block that is not exact."""
    block = again(block)
    await store.repair(block, lines_of(block.partition, rows))
    await store.insert(block, lines_of(block.partition, rows))
    assert (await store.verify(block)).exact
    return block


async def persist(store: EventStore, block: Block, rows: Sequence[Charged]) -> Block:
    """Stores a block through failures: verified after each, repaired when it differs."""
    doubtful = False
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                if not doubtful:
                    await store.insert(block, lines_of(block.partition, rows))
                elif not (await store.verify(block)).exact:
                    block = again(block)
                    await store.repair(block, lines_of(block.partition, rows))
                    await store.insert(block, lines_of(block.partition, rows))
            except StoreUnavailable:
                doubtful = True
                await asyncio.sleep(0.02)
            else:
                return block


async def projected(client: AsyncClient, partition: int, *, by_projection: bool) -> list[Sequence[Any]]:
    settings = (
        {"force_optimize_projection": 1, "force_optimize_projection_name": "by_block"}
        if by_projection
        else {"optimize_use_projections": 0}
    )
    result = await client.query(
        "SELECT block, count(), sum(billed), sum(intHash64(log_offset * 1024 + event_index)) FROM events "
        "WHERE partition = {partition:UInt16} GROUP BY block ORDER BY block",
        {"partition": partition},
        settings=settings,
    )
    return list(result.result_rows)


async def test_kills_in_the_middle_of_inserts_lose_and_double_nothing(
    engines: RunningStack, clickhouse_url: str, partition: int
) -> None:
    client = await connect(clickhouse_url)
    store = EventStore(client)
    started = await store.started_at()
    stored: list[Block] = []
    expected: list[tuple[int, list[Charged]]] = [(n, block_rows(partition, n, 5_000)) for n in range(60)]
    kills = 0
    for number, rows in expected:
        insert = asyncio.create_task(persist(store, a_block(partition, number, rows), rows))
        if number % 20 == 10:
            # Anywhere between the request's arrival and its answer: an insert takes some tens of ms.
            await asyncio.sleep(0.005 + 0.012 * kills)
            os.kill(engines.ready.processes["clickhouse"][0], signal.SIGKILL)
            kills += 1
        stored.append(await insert)

    assert kills == 3
    assert await store.started_at() > started
    for (_, rows), block in zip(expected, stored, strict=True):
        # As settling does once it has seen a restart: blocks that were acknowledged before are verified too.
        if not (await store.verify(block)).exact:
            await mend(store, block, rows)
    by_rows = await projected(client, partition, by_projection=False)
    assert by_rows == await projected(client, partition, by_projection=True)
    assert [figures[:3] for figures in by_rows] == [
        (number, len(rows), sum(each.billed for each in rows)) for number, rows in expected
    ]
    await client.close()


async def test_a_clickhouse_that_is_away_is_unavailable(clickhouse_url: str, partition: int) -> None:
    client = await connect(clickhouse_url)
    client._backend._base_url = "http://127.0.0.1:9"  # noqa: SLF001 - the driver can't connect lazily
    rows = block_rows(partition, 1, 1)
    with pytest.raises(StoreUnavailable):
        await EventStore(client).insert(a_block(partition, 1, rows), lines_of(partition, rows))
    await client.close()
