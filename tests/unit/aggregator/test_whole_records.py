from collections.abc import AsyncIterator, Sequence

import pytest

from aggregator import seen_recovery
from aggregator.event_store import Counted
from aggregator.seen_recovery import whole_records
from schemas.events import INDEX_BITS


async def _blocks(*sizes: int, of: Sequence[int]) -> AsyncIterator[Counted]:
    """The positions, cut into blocks of these sizes."""
    begin = 0
    for size in sizes:
        some = of[begin : begin + size]
        yield Counted([b"%d" % each for each in some], some, [each + 1 for each in some])
        begin += size


@pytest.mark.parametrize("sizes", [(12,), (5, 7), (4, 4, 4), (1,) * 12, (11, 1), (0, 12)])
async def test_no_record_is_cut_whatever_the_blocks_and_nothing_is_lost(
    sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen_recovery, "_RESTORED_AT_ONCE", 5)
    events = [
        offset << INDEX_BITS | index for offset, size in enumerate([4, 1, 3, 4]) for index in range(size)
    ]
    parts = [part async for part in whole_records(_blocks(*sizes, of=events))]
    assert [position for part in parts for position in part.positions] == events
    assert [id_ for part in parts for id_ in part.ids] == [b"%d" % each for each in events]
    assert [at for part in parts for at in part.received_at] == [each + 1 for each in events]
    records = [{position >> INDEX_BITS for position in part.positions} for part in parts]
    assert records == [{0, 1}, {2}, {3}]


async def test_of_nothing_there_is_nothing() -> None:
    assert [part async for part in whole_records(_blocks(0, of=[]))] == []
