"""Which batches become one transaction, and what each of them is told of its outcome."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from aggregator.domain.rows import BatchRecord
from aggregator.errors import FencedError
from aggregator.joint_bills import JointBills
from aggregator.ledger import Billed, Due
from aggregator.postgres import Claim
from tests.unit.aggregator.billing_cases import batch_of, event_of


class Books:
    """The ledger's port: bills batches whose partitions nobody else owns, once it may answer."""

    def __init__(self) -> None:
        self.transactions: list[list[int]] = []
        self.owned_by_others: set[int] = set()
        self.unreachable: int | None = None
        self.failure: Exception | None = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.is_asked = asyncio.Event()
        self.is_given_up = False

    async def bill(self, due: Sequence[Due]) -> list[Billed]:
        self.transactions.append([each.claim.partition for each in due])
        self.is_asked.set()
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.is_given_up = True
            raise
        if self.failure is not None:
            raise self.failure
        if any(each.claim.partition in self.owned_by_others for each in due):
            raise FencedError("another owner")
        if any(each.claim.partition == self.unreachable for each in due):
            raise OSError("no answer")
        return [Billed(record_of(each), each.claim.partition) for each in due]


def record_of(due: Due) -> BatchRecord:
    return BatchRecord(
        partition=due.claim.partition,
        incarnation=0,
        first_offset=0,
        next_offset=1,
        epoch=1,
        event_rows=0,
        billed=0,
        duplicates=[],
        dead_letters=[],
        openings={},
    )


def joint(books: Any) -> JointBills:
    return JointBills(books)


def due(partition: int, events: int = 0) -> Due:
    """An event has a size of 100 bytes."""
    return Due(Claim(partition, 0, 1, 0, 0, 0, None), batch_of([event_of()] * events), [])


async def test_batches_that_are_ready_in_the_same_turn_are_one_transaction() -> None:
    books = Books()
    bills = joint(books)
    billed = await asyncio.gather(*(bills.bill(due(partition)) for partition in (3, 1, 2)))
    assert [each.crossings for each in billed] == [3, 1, 2]
    await bills.bill(due(1))
    assert books.transactions == [[3, 1, 2], [1]]


async def test_a_partition_with_another_owner_is_told_so_alone() -> None:
    books = Books()
    books.owned_by_others = {2}
    bills = joint(books)
    told = await asyncio.gather(*(bills.bill(due(each)) for each in (1, 2, 3)), return_exceptions=True)
    assert [type(each) for each in told] == [Billed, FencedError, Billed]
    assert books.transactions == [[1, 2, 3], [1], [2], [3]]
    with pytest.raises(FencedError):
        await bills.bill(due(2))
    assert books.transactions[4:] == [[2]]


async def test_all_batches_of_a_transaction_share_its_failure_and_the_next_one_does_not() -> None:
    books = Books()
    books.failure = OSError("no answer")
    bills = joint(books)
    told = await asyncio.gather(*(bills.bill(due(each)) for each in (1, 2)), return_exceptions=True)
    assert told == [books.failure] * 2
    books.failure = None
    await bills.bill(due(1))


async def test_what_befalls_one_that_is_billed_alone_befalls_none_of_the_others() -> None:
    books = Books()
    books.owned_by_others, books.unreachable = {2}, 3
    bills = joint(books)
    told = await asyncio.gather(*(bills.bill(due(each)) for each in (1, 2, 3, 4)), return_exceptions=True)
    assert [type(each) for each in told] == [Billed, FencedError, OSError, Billed]


async def test_a_transaction_is_bounded_in_bytes_but_for_its_first_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aggregator.joint_bills._MOST_BYTES", 250)
    books = Books()
    bills = joint(books)
    await asyncio.gather(*(bills.bill(due(each, events=each)) for each in (3, 1, 1, 2)))
    assert books.transactions == [[3], [1, 1], [2]]


async def test_who_is_cancelled_waits_for_the_end_of_a_transaction_that_others_wait_for() -> None:
    books = Books()
    books.may_answer.clear()
    bills = joint(books)
    cancelled, other = (asyncio.create_task(bills.bill(due(each))) for each in (1, 2))
    await books.is_asked.wait()
    for _ in range(3):  # as often as somebody is impatient
        cancelled.cancel()
        done, _ = await asyncio.wait({cancelled}, timeout=0.01)
        assert not done
    books.may_answer.set()
    assert (await other).crossings == 2
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert not books.is_given_up


async def test_a_transaction_that_nobody_waits_for_is_given_up() -> None:
    books = Books()
    books.may_answer.clear()
    bills = joint(books)
    waiting = [asyncio.create_task(bills.bill(due(each))) for each in (1, 2)]
    await books.is_asked.wait()
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert books.is_given_up
