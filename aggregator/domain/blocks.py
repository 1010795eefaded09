"""A block: several billed batches of a partition that are stored, verified and mended as one."""

from collections.abc import Iterable

import msgspec
import numpy as np

from schemas.events import INDEX_BITS


class Block(msgspec.Struct, frozen=True):
    """A block as it is fixed in Postgres before it is stored.

    Offsets `first_offset` (inclusive) to `next_offset` (exclusive); `event_rows`, `billed` (micros) and
    `position_hash` are what ClickHouse must hold for it; `epoch` and `attempt` mark the rows of its newest
    insert.
    """

    partition: int
    incarnation: int
    block: int
    first_offset: int
    next_offset: int
    event_rows: int
    billed: int
    position_hash: int
    epoch: int
    attempt: int

    @property
    def offsets(self) -> int:
        """How many offsets of the log it stands for."""
        return self.next_offset - self.first_offset


_XOR = np.uint64(0x4CF2D2BAAE6DA887)
_MULTIPLY_1 = np.uint64(0xFF51AFD7ED558CCD)
_MULTIPLY_2 = np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT = np.uint64(33)


def position(offset: int, index: int) -> int:
    """The place of an event in its partition as one number: sorts as (offset, index) does."""
    return offset << INDEX_BITS | index


def position_hash(positions: Iterable[int]) -> int:
    """ClickHouse's `sum(intHash64(position))`, modulo 2⁶⁴, as the signed 64-bit integer that Postgres keeps.

    Independent of order; rows that are missing, doubled or of another block change it.
    """
    x = np.fromiter(positions, dtype=np.uint64)
    x = x ^ _XOR
    x = (x ^ (x >> _SHIFT)) * _MULTIPLY_1
    x = (x ^ (x >> _SHIFT)) * _MULTIPLY_2
    x = x ^ (x >> _SHIFT)
    return int(x.sum(dtype=np.uint64).astype(np.int64))


def hash_of_all(parts: Iterable[int]) -> int:
    """The position hash of parts together: a sum, as each of them is."""
    return int(np.fromiter(parts, dtype=np.int64).sum(dtype=np.int64))
