"""Which ids a partition has counted: an event is a duplicate if its id was counted at a smaller position.

The newest ids are in a table in memory; full or old enough it is sealed into an immutable segment file
(seen_segment.py) with a filter in memory (seen_segments.py), because nearly every id is new and must not
touch the disk. Files are named by epoch and only ever added, or removed when another one holds their ids or
nobody can ask for them any more: a process that lost its partition can neither block nor spoil its
successor's.

Costs: 24 h at 1,667 events a second are 144 million ids over all partitions: 2 bytes an id for the filters
(290 MB), 28 bytes an id of files (4 GB), and for each partition a full table (about 11 MB; 45 MB while it is
restored). The window is a setting: halve it and all of this but the tables halves. Measured with 10 million
ids sealed, on a busy core (`tests/bench/seen_ids.py`): 1.3 µs for a new id with sealing, 2.3 µs for a
duplicate of a sealed one, 0.6 µs for a key; sealing a full table holds a batch up for 0.1 s, some times in
ten minutes at that rate; opening takes 0.9 s.
"""

import hashlib
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from aggregator import seen_folder, seen_segment
from aggregator.seen_segment import Coverage, Ids, Segment
from aggregator.seen_segments import SeenSegments, halves
from schemas.events import INDEX_BITS

DAY_MS = 24 * 3600 * 1000
SEAL_IDS = 60_000
SEAL_MS = 10 * 60 * 1000
"""A table is sealed at so many ids, or after this much time of the log: what a crash leaves to rebuild."""
SEGMENT_IDS = 1 << 18
"""It is put together with the segment before it while both have no more than this: four tables, as a rule."""

KEY_SIZE = 16
_INCARNATION_BITS = 54
"""Above the bits of a position: what an earlier incarnation counted is smaller than all that came after. A
log of 2^44 records fits, and a thousand incarnations."""
_NO_LIMIT = 2**64
_LONGEST_WINDOW_MS = 2**32 - 1
"""A segment keeps times in 32 bits, and spans a window at most (49 days)."""
_SKEW_MS = 5 * 60 * 1000
"""By how much the log's time may be ahead of our own clock."""


def key_of(organization_id: str, event_id: str) -> bytes:
    """16 bytes for one id of one organization; clients choose ids, so the hash must resist them.

    Half of a SHA-256 keeps 64 bits of strength against collisions within an organization, 128 against those
    with another's ids; an organization's id holds no NUL. Its bits are uniform: filters and sorting rely on
    that. ClickHouse makes the same keys (`counted_between.sql`).
    """
    id_ = f"{organization_id}\0{event_id}".encode(errors="surrogatepass")
    return hashlib.sha256(id_).digest()[:KEY_SIZE]


class SeenIds:
    """The ids of one partition, counted in one incarnation and those before. Not for several threads at once.

    Positions are `offset << INDEX_BITS | index`. Time is that of the log (receivedAt, epoch milliseconds) and
    never runs backwards here: an earlier `at` counts as the newest one seen. Nor does it run far ahead of our
    own clock, or one door whose clock is days ahead would make all ids forgotten. Ids keep the time that they
    came with, a window ahead at most: while it is our own clock that is wrong, they are remembered longer.

    A disk that refuses segments stops nothing for hours (seen_segments.py); then `mark` and `restore` raise
    OSError.
    """

    def __init__(
        self,
        folder: Path,
        coverage: Coverage,
        ends: Mapping[int, int],
        now: Callable[[], int],
        *,
        window_ms: int,
        seal_ids: int,
        seal_ms: int,
        segment_ids: int,
    ) -> None:
        """Empty, to be filled by `open`; `coverage` is where the table in memory begins, `ends` says how far
        each earlier incarnation was billed."""
        self._folder = folder
        self._incarnation = coverage.incarnation
        self._base = coverage.incarnation << _INCARNATION_BITS
        self._ends = ends
        self._epoch = coverage.epoch
        self._window_ms = window_ms
        self._seal_ids = seal_ids
        self._seal_ms = seal_ms
        self._segment_ids = segment_ids
        self._segments = SeenSegments(folder, segment_ids)
        self._rebuild_from: int | None = None
        self._clock: int = coverage.newest_at
        self._now = now
        self._oldest_needed = self._clock - window_ms
        self._next_offset = coverage.next_offset
        self._begin_table()

    @classmethod
    def open(
        cls,
        folder: Path,
        partition: int,
        incarnation: int,
        epoch: int,
        next_offset: int,
        now: int,
        *,
        first_offset: int = 0,
        ends: Mapping[int, int] | None = None,
        window_ms: int = DAY_MS,
        seal_ids: int = SEAL_IDS,
        seal_ms: int = SEAL_MS,
        segment_ids: int = SEGMENT_IDS,
    ) -> "SeenIds":
        """Loads what any owner sealed of this partition under `folder`.

        `first_offset`: where the incarnation begins. `next_offset`: everything below is billed, so its ids
        must be known before the first `mark`; see `rebuild_from`. `ends`: how far each earlier incarnation
        was billed; ids that an owner recorded above and never billed are none. `now` (wall clock, epoch
        milliseconds) only bounds the log's time: a window does not pass while the log stands still. It is
        the bound until `follow` names a clock.
        """
        if window_ms > _LONGEST_WINDOW_MS:
            raise ValueError(f"a window of {window_ms} ms is longer than {_LONGEST_WINDOW_MS}")
        folder = folder / str(partition)
        folder.mkdir(parents=True, exist_ok=True)
        seen_folder.clean(folder, incarnation, now - 2 * window_ms)
        segments = seen_folder.load(folder, incarnation)
        clock = min(now, max((segment.coverage.newest_at for segment in segments), default=0))
        own = [segment for segment in segments if segment.coverage.incarnation == incarnation]
        covered, complete = seen_folder.covered(own, clock - window_ms, first_offset, next_offset)
        seen = cls(
            folder,
            Coverage(incarnation, covered, covered, epoch, clock),
            ends or {},
            lambda: now,
            window_ms=window_ms,
            seal_ids=seal_ids,
            seal_ms=seal_ms,
            segment_ids=segment_ids,
        )
        for segment in segments:
            seen._segments.add(segment)
        seen._rebuild_from = None if complete else covered
        seen._expire()
        return seen

    def follow(self, clock_ms: Callable[[], int]) -> None:
        """From now on this clock bounds the log's time."""
        self._now = clock_ms

    def rebuild_from(self) -> int | None:
        """The offset from which ids must be restored, up to the `next_offset` of `open`, before any `mark`.

        None: nothing is missing. The incarnation's first: nothing on disk is of use; start at the oldest
        record that may lie within the window (`offsets_for_times`), or at the log's first.
        """
        return self._rebuild_from

    def forgotten_before(self, at: int) -> int:
        """Ids that were counted before this time of the log may be unknown once it has reached `at`."""
        return max(self._clock, self._bounded(at)) - self._window_ms

    def memory(self) -> int:
        """Bytes of the filters, and of what waits for the disk; the table in memory comes on top, about 170
        bytes an id."""
        return self._segments.memory

    def mark(self, keys: Sequence[bytes], positions: Sequence[int], at: int) -> list[int]:
        """Counts a batch: returns the indexes of its duplicates, in order, and records all others.

        Positions ascend; batches come in log order without holes. `at` is the newest receivedAt of the batch.
        A key is a duplicate when it was recorded at a smaller position at most a window before. Marking the
        same batch again gives the same answer, so it does no harm when the ledger did not commit it.
        """
        counted_now = self._advance(at)
        if self._base:
            positions = [self._base + position for position in positions]
        sealed = self._sealed_positions(keys)
        row_of, recorded, ats = self._row_of, self._positions, self._ats
        duplicates = []
        for index, (key, position) in enumerate(zip(keys, positions, strict=True)):
            row = row_of.get(key)
            if row is None and index not in sealed:  # nearly all: written out, for it is the hot path
                row_of[key] = len(recorded)
                recorded.append(position)
                ats.append(counted_now)
                continue
            first, counted_at = sealed.get(index, (position, counted_now))
            if row is not None and ats[row] >= self._oldest_needed:
                first = min(first, recorded[row])
            if first < position:
                duplicates.append(index)
            else:
                self._record(key, row, position, counted_at)
        self._cover(positions, self._seal_ids)
        return duplicates

    def restore(self, keys: Sequence[bytes], positions: Sequence[int], at: int) -> None:
        """Records ids that were counted (not their duplicates), in log order, from `rebuild_from` on.

        `at` is the newest receivedAt of these ids; several calls of a few thousand ids each are best.
        """
        counted_now = self._advance(at)
        if self._base:
            positions = [self._base + position for position in positions]
        if at >= self._oldest_needed:
            at = min(at, counted_now)
            for key, position in zip(keys, positions, strict=True):
                known = self._row_of.get(key)
                if (
                    known is None
                    or self._ats[known] < self._oldest_needed
                    or self._positions[known] > position
                ):
                    self._record(key, known, position, at)
        # Nothing else needs memory yet: whole segments at once, which are written once.
        self._cover(positions, self._segment_ids)

    def restore_segment(self, ids: Ids) -> None:
        """As `restore`, for some records with at most as many ids as a segment: they become one.

        `ats` are their receivedAt. The log's time goes on with them, so a record that had waited in a spool
        gets the time of those before it.
        """
        self._seal_table()
        counted_now = self._advance(int(ids.ats.max()))
        self.cover((int(ids.positions[-1]) >> INDEX_BITS) + 1)
        ats = np.minimum(np.maximum.accumulate(ids.ats), np.uint64(counted_now))
        ids = msgspec.structs.replace(ids, positions=ids.positions + np.uint64(self._base), ats=ats)
        # The newest first: of an id that was counted twice, that one is found.
        needed = np.flatnonzero(ats >= max(0, self._oldest_needed))[::-1]
        if len(needed):
            self._seal(ids.only(needed))

    def cover(self, next_offset: int) -> None:
        """Says that all that was counted below is recorded, also where nothing was."""
        self._next_offset = max(self._next_offset, next_offset)

    def seal(self) -> None:
        """Writes the table in memory to a file; after a graceful stop nothing is left to rebuild.

        Raises OSError when the disk refuses: all is still in memory then.
        """
        self._seal_table()
        self._segments.write()

    def _advance(self, at: int) -> int:
        """The log's time goes on, and a table that is old enough is sealed before it takes more; returns the
        time that ids get which are counted now."""
        self._clock = max(self._clock, self._bounded(at))
        self._oldest_needed = self._clock - self._window_ms
        if not self._row_of:
            self._table_since = self._clock
        elif self._clock - self._table_since >= self._seal_ms:
            self._seal_table()
        self._segments.write_if_due(self._clock)
        ahead = min(self._window_ms, _LONGEST_WINDOW_MS - self._window_ms - self._seal_ms)
        return max(self._clock, min(at, self._clock + ahead))

    def _bounded(self, at: int) -> int:
        # Our own clock is asked only by a record that is ahead of what was seen: a few times a second.
        return at if at <= self._clock else min(at, self._now() + _SKEW_MS)

    def _record(self, key: bytes, known: int | None, position: int, at: int) -> None:
        if known is None:
            self._row_of[key] = len(self._positions)
            self._positions.append(position)
            self._ats.append(at)
        elif self._positions[known] != position:
            self._positions[known] = position
            self._ats[known] = at

    def _cover(self, positions: Sequence[int], most: int) -> None:
        if positions:
            self.cover(((positions[-1] - self._base) >> INDEX_BITS) + 1)
        if len(self._row_of) >= most:
            self._seal_table()

    def _sealed_positions(self, keys: Sequence[bytes]) -> dict[int, tuple[int, int]]:
        """Index into `keys` → smallest position that a segment has for it within the window, and its time."""
        found: dict[int, tuple[int, int]] = {}
        for segment, places in self._segments.holding(keys):
            limit = self._limit_of(segment)
            for index, position, at in places:
                if at >= self._oldest_needed and position < limit:
                    found[index] = min((position, at), found.get(index, (position, at)))
        return found

    def _limit_of(self, segment: Segment) -> int:
        """Positions from here on were never billed: their owner was ahead of the ledger when its log went."""
        incarnation = segment.coverage.incarnation
        if incarnation == self._incarnation or incarnation not in self._ends:
            return _NO_LIMIT
        return (incarnation << _INCARNATION_BITS) + (self._ends[incarnation] << INDEX_BITS)

    def _begin_table(self) -> None:
        self._first_offset = self._next_offset
        # Rows of the three follow each other in the order in which keys came: a dict keeps that order.
        self._row_of: dict[bytes, int] = {}
        self._positions = array("Q")
        self._ats = array("Q")
        self._preceding_at = self._clock
        self._table_since = self._clock

    def _seal_table(self) -> None:
        """The table becomes a segment; an empty one begins."""
        if self._row_of:
            prefixes, suffixes = halves(list(self._row_of))
            positions, ats = np.array(self._positions, np.uint64), np.array(self._ats, np.uint64)
            self._seal(Ids(prefixes, suffixes, positions, ats))
        self._expire()

    def _seal(self, ids: Ids) -> None:
        self._keep(ids)
        self._begin_table()
        self._segments.write_what_can_be(self._clock)

    def _keep(self, ids: Ids) -> None:
        """What was counted since the table began becomes a segment."""
        first_offset, preceding_at = self._first_offset, self._preceding_at
        before = self._mergeable(len(ids))
        if before is not None:
            # A key that is in both was recorded anew after its window, or at a smaller position: the new one.
            rows = before.rows_of(ids.prefixes, ids.suffixes)
            kept = np.ones(len(before), np.bool_)
            kept[rows[rows >= 0]] = False
            ids = before.ids().only(kept).with_all_of(ids)
            first_offset, preceding_at = before.coverage.first_offset, before.preceding_at
        coverage = Coverage(
            self._incarnation, first_offset, self._next_offset, self._epoch, int(ids.ats.max())
        )
        whole = seen_segment.sealed(self._folder, coverage, preceding_at, ids)
        self._segments.keep(whole, before)

    def _mergeable(self, ids: int) -> Segment | None:
        """A segment just before the table that has room for it: there are as few as if tables were large."""
        segment = self._segments.ending_at(self._incarnation, self._first_offset)
        if segment is None or len(segment) + ids > self._segment_ids:
            return None
        return segment if self._clock - segment.oldest_at <= self._window_ms else None

    def _expire(self) -> None:
        """Removes what no batch can ask for; later than needed, for another owner's clock may be behind."""
        self._segments.expire(self._clock - self._window_ms - self._seal_ms)
