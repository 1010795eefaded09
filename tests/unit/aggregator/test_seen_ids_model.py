"""Seen ids against a plain model, through random batches, replays, seals, restarts and expiry."""

import tempfile
from pathlib import Path

import msgspec
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator.seen_ids import SeenIds, key_of
from aggregator.seen_segment import Ids
from aggregator.seen_segments import halves
from schemas.events import INDEX_BITS

WINDOW = 1_000
NOW = 1_800_000_000_000


class Batch(msgspec.Struct, frozen=True):
    """Ids of one batch, two to a record; `after` is how much later than the batch before it came."""

    ids: tuple[int, ...]
    after: int


class Seal(msgspec.Struct, frozen=True):
    """A graceful stop of the old owner, or a table that was full."""


class Restart(msgspec.Struct, frozen=True):
    """A new owner; the last `uncommitted` batches are not in the ledger, and come again. What no file has is
    restored batch by batch, or as segments of so many batches."""

    uncommitted: int
    batches_a_segment: int | None


class Replay(msgspec.Struct, frozen=True):
    """The last batches come again, without a restart."""

    batches: int


Step = Batch | Seal | Restart | Replay

STEPS = st.lists(
    st.one_of(
        st.builds(
            Batch,
            st.lists(st.integers(0, 12), max_size=9).map(tuple),
            st.sampled_from((0, 1, 40, 250, WINDOW, WINDOW + 1)),
        ),
        st.builds(Seal),
        st.builds(Restart, st.integers(0, 2), st.sampled_from((None, 1, 2, 40))),
        st.builds(Replay, st.integers(1, 2)),
    ),
    max_size=40,
)


class Marked(msgspec.Struct, frozen=True):
    """A batch as it was marked, and its answer."""

    keys: tuple[bytes, ...]
    positions: tuple[int, ...]
    at: int
    duplicates: list[int]

    @property
    def counted(self) -> tuple[list[bytes], list[int]]:
        kept = [n for n in range(len(self.keys)) if n not in self.duplicates]
        return [self.keys[n] for n in kept], [self.positions[n] for n in kept]


class World:
    """A log with its ledger (`marked`), the seen ids under test, and what they ought to answer."""

    def __init__(self, folder: Path, segment_ids: int) -> None:
        self.folder = folder
        self.segment_ids = segment_ids
        self.epoch = 0
        self.clock = 0
        self.next_offset = 0
        self.marked: list[Marked] = []
        self.counted_at: dict[tuple[bytes, int], int] = {}
        self.seen = self.opened()

    def opened(self) -> SeenIds:
        self.epoch += 1
        return SeenIds.open(
            self.folder,
            0,
            0,
            self.epoch,
            self.next_offset,
            NOW,
            window_ms=WINDOW,
            seal_ids=8,
            seal_ms=100,
            segment_ids=self.segment_ids,
        )

    def step(self, step: Step) -> None:
        match step:
            case Batch():
                self.batch(step)
            case Seal():
                self.seen.seal()
            case Restart():
                self.restart(step)
            case Replay():
                for each in self.newest(step.batches):
                    self.mark(each.keys, each.positions)

    def batch(self, batch: Batch) -> None:
        self.clock += batch.after
        keys = tuple(key_of("o", str(each)) for each in batch.ids)
        positions = tuple(self.next_offset + n // 2 << INDEX_BITS | n % 2 for n in range(len(batch.ids)))
        duplicates = self.mark(keys, positions)
        self.next_offset += len(keys) // 2 + 1
        self.marked.append(Marked(keys, positions, self.clock, duplicates))

    def mark(self, keys: tuple[bytes, ...], positions: tuple[int, ...]) -> list[int]:
        expected = []
        for n, (key, position) in enumerate(zip(keys, positions, strict=True)):
            earlier = (
                at
                for (other, where), at in self.counted_at.items()
                if other == key and where < position and self.clock - at <= WINDOW
            )
            if any(True for _ in earlier):
                expected.append(n)
            else:
                self.counted_at.setdefault((key, position), self.clock)
        assert self.seen.mark(keys, positions, self.clock) == expected
        return expected

    def newest(self, count: int) -> list[Marked]:
        """The last batches, of the newest time only: after a window an answer may rightly be another one."""
        last = self.marked[-count:] if count else []
        return [each for each in last if each.at == self.clock]

    def restart(self, restart: Restart) -> None:
        split = len(self.marked) - len(self.newest(restart.uncommitted))
        committed, again = self.marked[:split], self.marked[split:]
        log_end = self.next_offset
        first = next((each.positions[0] for each in again if each.positions), None)
        self.next_offset = log_end if first is None else first >> INDEX_BITS
        self.seen = self.opened()
        begin = self.seen.rebuild_from()
        if begin is not None:
            lacking = [
                each for each in committed if each.positions and each.positions[-1] >> INDEX_BITS >= begin
            ]
            self.restore(lacking, restart.batches_a_segment)
        self.next_offset = log_end
        for each in again:
            self.mark(each.keys, each.positions)

    def restore(self, lacking: list[Marked], batches_a_segment: int | None) -> None:
        if batches_a_segment is None:
            for each in lacking:
                self.seen.restore(*each.counted, each.at)
            return
        for first in range(0, len(lacking), batches_a_segment):
            batches = lacking[first : first + batches_a_segment]
            counted = [(*event, each.at) for each in batches for event in zip(*each.counted, strict=True)]
            if counted:
                keys, positions, ats = zip(*counted, strict=True)
                columns = np.array(positions, np.uint64), np.array(ats, np.uint64)
                self.seen.restore_segment(Ids(*halves(keys), *columns))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.sampled_from((8, 24)))
def test_seen_ids_answer_as_a_plain_model_does(steps: list[Step], segment_ids: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), segment_ids)
        for step in steps:
            world.step(step)
