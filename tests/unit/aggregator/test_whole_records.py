from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest

from aggregator.seen_recovery import whole_records
from aggregator.seen_segment import Ids
from schemas.events import INDEX_BITS


async def _blocks(*sizes: int, of: Sequence[int]) -> AsyncIterator[Ids]:
    """Ids at these positions, cut into blocks of these sizes."""
    begin = 0
    for size in sizes:
        some = np.array(of[begin : begin + size], np.uint64)
        yield Ids(some + 1, some + 2, some, some + 3)
        begin += size


@pytest.mark.parametrize("sizes", [(12,), (5, 7), (4, 4, 4), (1,) * 12, (11, 1), (0, 12)])
async def test_no_record_is_cut_whatever_the_blocks_and_nothing_is_lost(sizes: tuple[int, ...]) -> None:
    events = [
        offset << INDEX_BITS | index for offset, size in enumerate([4, 1, 3, 4]) for index in range(size)
    ]
    parts = [part async for part in whole_records(_blocks(*sizes, of=events), 5)]
    assert [position for part in parts for position in part.positions] == events
    for part in parts:
        assert part.prefixes.tolist() == (part.positions + 1).tolist()
        assert part.suffixes.tolist() == (part.positions + 2).tolist()
        assert part.ats.tolist() == (part.positions + 3).tolist()
    records = [{int(position) >> INDEX_BITS for position in part.positions} for part in parts]
    assert records == [{0, 1}, {2}, {3}]


async def test_of_nothing_there_is_nothing() -> None:
    assert [part async for part in whole_records(_blocks(0, of=[]), 5)] == []
