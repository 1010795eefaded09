"""The sealed segments of a partition's seen ids: asked through filters, written as soon as the disk allows.

A segment that the disk refuses stays in memory, 28 bytes an id, and is asked there like any other; what a
crash takes of it is rebuilt from the log.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import structlog

from aggregator import metrics, seen_segment
from aggregator.seen_filter import FilterBank
from aggregator.seen_segment import Sealed, Segment, Words

log = structlog.get_logger(__name__)

_MOST_UNWRITTEN = 32
"""Segments that wait in memory for a disk that refuses them: 7.3 MB each, 235 MB a partition, five hours of
the specification's rate in 4 partitions."""
_TRY_AGAIN_MS = 60 * 1000


class _Unwritten(msgspec.Struct, frozen=True):
    """A segment that is not on the disk yet, and the files that it takes the place of once it is."""

    whole: Sealed
    replaces: tuple[Path, ...]


class SeenSegments:
    """The segments of one folder; `ids` is how many one holds at most. Times are those of the log."""

    def __init__(self, folder: Path, ids: int) -> None:
        self._folder = folder
        self._filters = FilterBank(ids)
        self._segments: dict[int, Segment] = {}
        self._unwritten: dict[int, _Unwritten] = {}
        self._try_again_at = 0

    @property
    def memory(self) -> int:
        """Bytes that the filters take, and what waits for the disk."""
        return self._filters.memory + sum(len(each.whole.content) for each in self._unwritten.values())

    def add(self, segment: Segment) -> int:
        """One that is on the disk; returns its slot."""
        slot = self._filters.add(segment.suffixes)
        self._segments[slot] = segment
        return slot

    def keep(self, whole: Sealed, before: Segment | None) -> None:
        """A new one, to be written. It has all ids of `before`, whose file stays until it is on the disk."""
        replaces = () if before is None else self._forget(self._slot_of(before))
        slot = self.add(seen_segment.parse(whole.path, memoryview(whole.content)))
        self._unwritten[slot] = _Unwritten(whole, replaces)

    def ending_at(self, incarnation: int, offset: int) -> Segment | None:
        """The one whose ids were counted just before this offset."""
        for segment in self._segments.values():
            if (segment.coverage.incarnation, segment.coverage.next_offset) == (incarnation, offset):
                return segment
        return None

    def holding(self, keys: Sequence[bytes]) -> Iterator[tuple[Segment, Iterator[tuple[int, int, int]]]]:
        """Segments that have some of the keys, with (index into `keys`, position, time) of each."""
        if not self._segments or not keys:
            return
        prefixes, suffixes = halves(keys)
        indexes, slots = self._filters.candidates(suffixes)
        for slot in np.unique(slots):
            asked = indexes[slots == slot]
            segment = self._segments[int(slot)]
            rows = segment.rows_of(prefixes[asked], suffixes[asked])
            there = rows >= 0
            positions, ats = segment.places(rows[there])
            yield segment, zip(asked[there].tolist(), positions.tolist(), ats.tolist(), strict=True)

    def expire(self, before: int) -> None:
        """Removes those whose newest id was counted before that time."""
        for slot in [slot for slot, each in self._segments.items() if each.coverage.newest_at < before]:
            for path in self._forget(slot):
                seen_segment.remove(path)

    def write_if_due(self, clock: int) -> None:
        """As `write_what_can_be`, a while after the disk has refused."""
        if self._unwritten and clock >= self._try_again_at:
            self.write_what_can_be(clock)

    def write_what_can_be(self, clock: int) -> None:
        """Raises OSError only when too much would have to be kept in memory."""
        try:
            self.write()
        except OSError as error:
            if len(self._unwritten) > _MOST_UNWRITTEN:
                raise
            self._try_again_at = clock + _TRY_AGAIN_MS
            log.warning(
                "seen_ids.not_written", folder=str(self._folder), kept=len(self._unwritten), error=str(error)
            )

    def write(self) -> None:
        """Writes what is not on the disk, in the order of the log: files after a hole would be of no use.

        Raises OSError when the disk refuses.
        """
        try:
            for slot, unwritten in list(self._unwritten.items()):
                self._segments[slot] = seen_segment.write(unwritten.whole)
                del self._unwritten[slot]
                for path in unwritten.replaces:
                    if path != unwritten.whole.path:  # which it has, when it covers nothing new
                        seen_segment.remove(path)
        finally:
            metrics.seen_segments_unwritten.labels(self._folder.name).set(len(self._unwritten))

    def _slot_of(self, wanted: Segment) -> int:
        return next(slot for slot, segment in self._segments.items() if segment is wanted)

    def _forget(self, slot: int) -> tuple[Path, ...]:
        """Asks the segment no more; returns the files that hold what it held."""
        segment = self._segments.pop(slot)
        self._filters.remove(slot)
        unwritten = self._unwritten.pop(slot, None)
        return (segment.path, *(unwritten.replaces if unwritten else ()))


def halves(keys: Sequence[bytes]) -> tuple[Words, Words]:
    """The first and the second half of each key."""
    both = np.frombuffer(b"".join(keys), "<u8").reshape(-1, 2)
    return np.ascontiguousarray(both[:, 0]), np.ascontiguousarray(both[:, 1])
