"""What was billed and can be had no more: exactly which offsets, events and micros."""

import msgspec

from aggregator.domain.blocks import Block
from aggregator.domain.losses import Loss, lacking, losses_of
from aggregator.domain.rows import BatchRecord

BLOCK = Block(2, 1, 7, 40, 60, event_rows=9, billed=90, position_hash=1, epoch=1, attempt=1)


def a_record(first_offset: int, next_offset: int, event_rows: int, billed: int) -> BatchRecord:
    return BatchRecord(
        partition=2,
        incarnation=1,
        first_offset=first_offset,
        next_offset=next_offset,
        epoch=1,
        event_rows=event_rows,
        billed=billed,
        duplicates=[],
        dead_letters=[],
        openings={},
    )


def test_neighbours_are_one_loss_and_what_has_no_row_is_none() -> None:
    records = [a_record(0, 10, 3, 30), a_record(10, 12, 1, 5), a_record(12, 20, 0, 0), a_record(20, 21, 2, 0)]
    assert losses_of(records) == [Loss(0, 12, 4, 35), Loss(20, 21, 2, 0)]
    assert losses_of([]) == []


def test_a_block_lacks_what_is_not_left_of_it() -> None:
    left = msgspec.structs.replace(BLOCK, event_rows=6, billed=95)
    assert lacking(BLOCK, left) == [Loss(40, 60, 3, -5)]
    assert lacking(BLOCK, BLOCK) == []
