"""Storing through faults: what is kept in memory, and what counts as verified."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from aggregator.domain.batch import Batch, LogRecord
from aggregator.domain.blocks import Block
from aggregator.domain.losses import Loss
from aggregator.domain.rows import BatchRecord, Lines
from aggregator.errors import FencedError, StoreError, StoreUnavailable
from aggregator.event_store import Verdict
from aggregator.postgres import Claim
from aggregator.store import PartitionStore
from aggregator.store_limits import RowBudget, StoreLimits
from schemas.events import encode_events
from tests.unit.aggregator.billing_cases import INCARNATION, PARTITION, batch_of, event_of

ROWS, MOST_BYTES = 3, 1 << 20
CLAIM = Claim(PARTITION, INCARNATION, 1, 0, 0, 0, None)


class Blocks:
    """The ledger's port, in memory."""

    def __init__(self) -> None:
        self.fixed: list[Block] = []
        self.stored: list[Block] = []
        self.attempts: list[Block] = []
        self.billed: list[BatchRecord] = []
        self.looked_for = asyncio.Event()

    async def fix_block(self, block: Block, losses: Sequence[Loss]) -> None:
        assert not losses
        self.fixed.append(block)

    async def new_attempt(self, block: Block) -> None:
        self.attempts.append(block)

    async def mark_stored(self, block: Block, *_: object) -> None:
        self.stored.append(block)

    async def blocks_not_stored(self, *_: object) -> list[Block]:
        return []

    async def blocks_not_verified(self, *_: object) -> list[Block]:
        self.looked_for.set()
        return []

    async def comparison_is_due(self, *_: object) -> bool:
        return False

    async def batches_between(self, *place: int, most: int) -> list[BatchRecord]:
        _, _, first_offset, next_offset = place
        return [r for r in self.billed if first_offset <= r.first_offset < next_offset][:most]


class Log:
    """The log's port: each record holds one event."""

    async def read(
        self, partition: int, first_offset: int, next_offset: int
    ) -> AsyncGenerator[list[LogRecord], None]:
        assert partition == PARTITION
        for offset in range(first_offset, next_offset):
            yield [LogRecord(offset, 0, None, encode_events([event_of()]))]


class Rows:
    """ClickHouse's port, in memory: answers `insert` by what it is given, one after the other."""

    def __init__(self, *answers: BaseException | None) -> None:
        self.answers = list(answers)
        self.inserting = asyncio.Event()
        self.held: int = 0

        self.refusals = 0
        """So many questions are refused first: the password was changed, a part is corrupt."""

    async def raise_fence(self, *_: object) -> None:
        self.refuse()

    async def started_at(self) -> int:
        self.refuse()
        return 1

    def refuse(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise StoreError("code 516: authentication failed")

    async def insert(self, _: Block, rows: Lines) -> None:
        self.inserting.set()
        if not self.answers:
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if answer is not None:
            raise answer
        self.held += rows.count

    async def verify(self, block: Block) -> Verdict:
        return Verdict(exact=self.held == block.event_rows, found=())

    async def repair(self, *_: object) -> None:
        self.held = 0


def store_of(blocks: Blocks, rows: Rows, budget: RowBudget, claim: Claim = CLAIM) -> PartitionStore:
    ports: Any = (claim, blocks, blocks, rows, rows, Log())
    return PartitionStore(*ports, StoreLimits(0.0, 0.0, 10_000, MOST_BYTES, 60.0, 60.0), budget, owner="me")


async def run_to_the_end(store: PartitionStore) -> None:
    """Runs it until all that was added is stored."""
    task = asyncio.create_task(store.run())
    async with asyncio.timeout(10):
        await store.drain()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def billed(first_offset: int) -> tuple[Batch, BatchRecord]:
    batch = batch_of([event_of()] * ROWS, first_offset)
    record = BatchRecord(
        partition=PARTITION,
        incarnation=INCARNATION,
        first_offset=batch.first_offset,
        next_offset=batch.next_offset,
        epoch=1,
        event_rows=ROWS,
        billed=0,
        duplicates=[],
        dead_letters=[],
        openings={},
        size=batch.size,
    )
    return batch, record


async def test_a_store_that_is_let_go_in_the_middle_of_an_insert_gives_its_rows_back() -> None:
    budget, rows = RowBudget(ROWS, MOST_BYTES), Rows()
    store = store_of(Blocks(), rows, budget)
    store.add(*billed(0))
    task = asyncio.create_task(store.run())
    await rows.inserting.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    store.discard()
    assert budget.take(ROWS, MOST_BYTES)


async def test_a_store_that_is_fenced_gives_its_rows_back() -> None:
    budget = RowBudget(ROWS, MOST_BYTES)
    store = store_of(Blocks(), Rows(FencedError("another owner")), budget)
    store.add(*billed(0))
    with pytest.raises(FencedError):
        await store.run()
    assert budget.take(ROWS, MOST_BYTES)


async def test_what_clickhouse_refuses_for_a_while_is_tried_on_and_ends_nothing() -> None:
    blocks, rows = Blocks(), Rows(StoreError("code 60: no such table"), None)
    rows.refusals = 2
    store = store_of(blocks, rows, RowBudget(ROWS, MOST_BYTES))
    store.add(*billed(0))
    await run_to_the_end(store)
    assert rows.held == ROWS


async def test_a_verification_that_clickhouse_refuses_is_tried_again() -> None:
    blocks, rows = Blocks(), Rows()
    rows.refusals = 2
    ports: Any = (CLAIM, blocks, blocks, rows, rows, Log())
    limits = StoreLimits(0.0, 0.0, 10_000, MOST_BYTES, 0.01, 60.0)
    store = PartitionStore(*ports, limits, RowBudget(ROWS, MOST_BYTES), owner="me")
    task = asyncio.create_task(store.verify())
    async with asyncio.timeout(10):
        await blocks.looked_for.wait()
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_insert_of_unknown_outcome_is_replaced_under_an_attempt_of_its_own() -> None:
    blocks, rows = Blocks(), Rows(StoreUnavailable("no answer"), None)
    store = store_of(blocks, rows, RowBudget(ROWS, MOST_BYTES))
    store.add(*billed(0))
    await run_to_the_end(store)
    assert [block.attempt for block in blocks.fixed] == [1]
    assert [block.attempt for block in blocks.attempts] == [2]
    assert [block.attempt for block in blocks.stored] == [2]
    assert rows.held == ROWS


async def test_what_an_owner_before_billed_and_what_is_too_much_for_memory_comes_from_the_ledger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aggregator.store._MAX_PENDING", 4)
    monkeypatch.setattr("aggregator.store._MAX_BATCHES", 3)
    blocks, rows, batches = Blocks(), Rows(*[None] * 20), [billed(ROWS * n) for n in range(20)]
    blocks.billed = [record for _, record in batches]
    claim = Claim(PARTITION, INCARNATION, 1, 5 * ROWS, 0, 0, None)
    store = store_of(blocks, rows, RowBudget(1_000, MOST_BYTES), claim)
    for each in batches[5:8]:
        store.add(*each)
    task = asyncio.create_task(store.run())
    async with asyncio.timeout(10):
        await store.drain()
        for each in batches[8:]:
            store.add(*each)
        await store.drain()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    ranges = [(block.first_offset, block.next_offset) for block in blocks.stored]
    assert [first for first, _ in ranges] == [0, *(end for _, end in ranges[:-1])]
    assert ranges[-1][1] == 20 * ROWS
    assert [block.block for block in blocks.stored] == list(range(len(ranges)))
    assert rows.held == 20 * ROWS


async def test_a_block_and_what_is_kept_in_memory_are_bounded_by_bytes_as_well() -> None:
    batches = [billed(ROWS * n) for n in range(9)]
    size = batches[0][0].size
    blocks, rows, budget = Blocks(), Rows(*[None] * 9), RowBudget(1_000, 2 * size)
    ports: Any = (CLAIM, blocks, blocks, rows, rows, Log())
    store = PartitionStore(*ports, StoreLimits(0.0, 0.0, 10_000, 3 * size, 60.0, 60.0), budget, owner="me")
    for each in batches:
        store.add(*each)
    assert not budget.take(1, 1)
    await run_to_the_end(store)
    assert [block.next_offset - block.first_offset for block in blocks.stored] == [3 * ROWS] * 3
    assert rows.held == 9 * ROWS
    assert budget.take(1_000, 2 * size)


async def test_blocks_that_trickle_in_wait_for_company_and_many_rows_or_a_handover_do_not() -> None:
    blocks, rows = Blocks(), Rows(*[None] * 9)
    ports: Any = (CLAIM, blocks, blocks, rows, rows, Log())
    limits = StoreLimits(0.0, 1e9, 10_000, MOST_BYTES, 60.0, 60.0)
    store = PartitionStore(*ports, limits, RowBudget(10_000, 64 * MOST_BYTES), owner="me")
    task = asyncio.create_task(store.run())
    many = -(-250 // ROWS)
    offsets = iter(range(0, 10_000, ROWS))
    async with asyncio.timeout(10):
        store.add(*billed(next(offsets)))  # the first after a pause: soon
        while len(blocks.stored) < 1:
            await asyncio.sleep(0)
        store.add(*billed(next(offsets)))  # waits for company
        await asyncio.sleep(0.05)
        assert len(blocks.stored) == 1
        for _ in range(many - 1):
            store.add(*billed(next(offsets)))
        while len(blocks.stored) < 2:
            await asyncio.sleep(0)
        assert rows.held == (1 + many) * ROWS
        store.add(*billed(next(offsets)))
        await store.drain()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(blocks.stored) == 3
    assert rows.held == (2 + many) * ROWS
