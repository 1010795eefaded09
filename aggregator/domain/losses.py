"""What was billed and can be had no more."""

from collections.abc import Iterable

import msgspec

from aggregator.domain.blocks import Block
from aggregator.domain.rows import BatchRecord


class Loss(msgspec.Struct, frozen=True):
    """Offsets `first_offset` (inclusive) to `next_offset` (exclusive): how many events, how many micros."""

    first_offset: int
    next_offset: int
    event_rows: int
    billed: int


def losses_of(records: Iterable[BatchRecord]) -> list[Loss]:
    """The batches as losses, neighbours as one; those without a row are none."""
    losses: list[Loss] = []
    for record in records:
        if not record.event_rows:
            continue
        loss = Loss(record.first_offset, record.next_offset, record.event_rows, record.billed)
        if losses and losses[-1].next_offset == loss.first_offset:
            before = losses.pop()
            loss = Loss(
                before.first_offset,
                loss.next_offset,
                before.event_rows + loss.event_rows,
                before.billed + loss.billed,
            )
        losses.append(loss)
    return losses


def lacking(block: Block, left: Block) -> list[Loss]:
    """What `left`, all that there is of the block, lacks; negative figures where it is more."""
    rows, billed = block.event_rows - left.event_rows, block.billed - left.billed
    return [Loss(block.first_offset, block.next_offset, rows, billed)] if rows or billed else []
