"""Which blocks become one insert, and what each of them is told of its outcome."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from aggregator.domain.blocks import Block
from aggregator.domain.rows import Lines
from aggregator.errors import FencedError, StoreUnavailable
from aggregator.joint_inserts import JointInserts


class Rows:
    """ClickHouse's port: keeps what it is sent, and answers once it may."""

    def __init__(self) -> None:
        self.inserts: list[list[int]] = []
        self.newer: dict[int, int] = {}
        self.failure: BaseException | None = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.is_asked = asyncio.Event()

    async def insert_all(self, blocks: Sequence[tuple[Block, Lines]]) -> Mapping[int, int]:
        self.inserts.append([block.partition for block, _ in blocks])
        self.is_asked.set()
        await self.may_answer.wait()
        if self.failure is not None:
            raise self.failure
        return self.newer


def joint(rows: Any) -> JointInserts:
    return JointInserts(rows)


def block(partition: int, number: int = 1) -> Block:
    return Block(partition, 0, number, 0, 1, 1, 0, 0, 3, 1)


LINES = Lines(b"{}\n", 1)


async def test_blocks_that_are_ready_at_the_same_time_are_one_insert() -> None:
    rows = Rows()
    inserts = joint(rows)
    await asyncio.gather(*(inserts.insert(block(partition), LINES) for partition in (3, 1, 2)))
    await inserts.insert(block(1), LINES)
    assert rows.inserts == [[3, 1, 2], [1]]


async def test_two_blocks_of_a_partition_are_two_inserts() -> None:
    rows = Rows()
    inserts = joint(rows)
    given = [block(1, 1), block(2, 1), block(1, 2)]
    await asyncio.gather(*(inserts.insert(each, LINES) for each in given))
    assert rows.inserts == [[1, 2], [1]]


async def test_an_insert_is_bounded_in_bytes_but_for_its_first_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aggregator.joint_inserts._MOST_BYTES", 10)
    rows = Rows()
    inserts = joint(rows)
    large = Lines(b"{      }\n\n\n", 1)
    await asyncio.gather(
        inserts.insert(block(1), large),
        inserts.insert(block(2), LINES),
        inserts.insert(block(3), LINES),
        inserts.insert(block(4), large),
    )
    assert rows.inserts == [[1], [2, 3], [4]]


async def test_all_blocks_of_an_insert_share_its_failure_and_the_next_one_does_not() -> None:
    rows = Rows()
    rows.failure = StoreUnavailable("no answer")
    inserts = joint(rows)
    told = await asyncio.gather(
        inserts.insert(block(1), LINES), inserts.insert(block(2), LINES), return_exceptions=True
    )
    assert told == [rows.failure] * 2
    rows.failure = None
    await inserts.insert(block(1, 2), LINES)


async def test_only_a_partition_that_has_a_newer_epoch_is_fenced() -> None:
    rows = Rows()
    rows.newer = {2: 9}
    inserts = joint(rows)
    told = await asyncio.gather(
        inserts.insert(block(1), LINES), inserts.insert(block(2), LINES), return_exceptions=True
    )
    assert told[0] is None
    assert isinstance(told[1], FencedError)
    assert "partition 2 is at epoch 9, not 3" in str(told[1])


async def test_a_partition_that_is_handed_over_ends_no_insert_of_the_others() -> None:
    rows = Rows()
    rows.may_answer.clear()
    inserts = joint(rows)
    handed_over, other = (asyncio.create_task(inserts.insert(block(each), LINES)) for each in (1, 2))
    await rows.is_asked.wait()
    handed_over.cancel()
    await asyncio.gather(handed_over, return_exceptions=True)
    assert not other.done()
    rows.may_answer.set()
    await other
    assert rows.inserts == [[1, 2]]


async def test_a_block_that_is_handed_over_before_it_is_sent_is_not_sent() -> None:
    rows = Rows()
    inserts = joint(rows)
    handed_over, other = (asyncio.create_task(inserts.insert(block(each), LINES)) for each in (1, 2))
    await asyncio.sleep(0)
    handed_over.cancel()
    await other
    assert rows.inserts == [[2]]
    alone = asyncio.create_task(inserts.insert(block(1), LINES))
    await asyncio.sleep(0)
    alone.cancel()
    await inserts.insert(block(1, 2), LINES)
    assert rows.inserts == [[2], [1]]


async def test_closing_gives_up_what_is_being_sent() -> None:
    rows = Rows()
    rows.may_answer.clear()
    inserts = joint(rows)
    waiting = asyncio.create_task(inserts.insert(block(1), LINES))
    await rows.is_asked.wait()
    await inserts.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
