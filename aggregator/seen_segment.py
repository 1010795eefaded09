"""Segments of seen ids: immutable, sorted, checksummed files that any process of the machine may map.

A file is a fixed head, the head's fields as JSON, and four columns sorted by key: the two halves of the key
(8 + 8 bytes), the position (8) and when it was counted (4, milliseconds after the segment's oldest): 28 bytes
an id, 4 GB for the 144 million ids of 24 hours at 1,667 events a second.
"""

import contextlib
import mmap
import os
import re
import struct
import zlib
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Indexes = npt.NDArray[np.int64]

SUFFIX = ".seen"
_MAGIC = b"FLSEEN02"
_START = struct.Struct("<8sII")  # magic, checksum of all that follows, length of the head
_ALIGN = 8
_NAME = re.compile(r"(\d+)-(\d+)-(\d+)-(\d+)-(\d+)")


class CorruptSegment(Exception):
    """The file is not what was written: cut off, changed, or of another program."""


class Coverage(msgspec.Struct, frozen=True, order=True):
    """What a segment's name says: every id counted in these offsets is in it, but for expired ones."""

    incarnation: int
    first_offset: int
    next_offset: int
    epoch: int
    newest_at: int

    @property
    def file_name(self) -> str:
        return (
            f"{self.incarnation}-{self.first_offset}-{self.next_offset}-{self.epoch}-{self.newest_at}{SUFFIX}"
        )

    @classmethod
    def of(cls, path: Path) -> "Coverage | None":
        """What the name says; None when it is no segment's name."""
        match = _NAME.fullmatch(path.name.removesuffix(SUFFIX))
        return cls(*(int(part) for part in match.groups())) if match else None

    def within(self, other: "Coverage") -> bool:
        """Whether the other makes this one unnecessary; of two alike the newer epoch's stays."""
        if self.incarnation != other.incarnation:
            return False
        mine, its = (self.first_offset, self.next_offset), (other.first_offset, other.next_offset)
        if mine == its:
            return (self.epoch, self.newest_at) < (other.epoch, other.newest_at)
        return its[0] <= mine[0] and mine[1] <= its[1]


class Ids(msgspec.Struct, frozen=True):
    """Ids as columns of the same length, in any order; `ats` are epoch milliseconds."""

    prefixes: Words
    suffixes: Words
    positions: Words
    ats: Words

    def __len__(self) -> int:
        return len(self.prefixes)

    def only(self, wanted: "npt.NDArray[np.bool_] | Indexes | slice") -> "Ids":
        return Ids(self.prefixes[wanted], self.suffixes[wanted], self.positions[wanted], self.ats[wanted])

    def with_all_of(self, other: "Ids") -> "Ids":
        return Ids(
            np.concatenate((self.prefixes, other.prefixes)),
            np.concatenate((self.suffixes, other.suffixes)),
            np.concatenate((self.positions, other.positions)),
            np.concatenate((self.ats, other.ats)),
        )


class _Head(msgspec.Struct, frozen=True):
    coverage: Coverage
    ids: int
    oldest_at: int
    preceding_at: int


class Sealed(msgspec.Struct, frozen=True):
    """A segment's whole file, and where it belongs."""

    path: Path
    content: bytes


class Segment:
    """A sealed file, mapped, or its content in memory. `preceding_at`: the newest time of what was counted
    before its first offset."""

    def __init__(self, path: Path, head: _Head, body: memoryview) -> None:
        self.path = path
        self.coverage = head.coverage
        self.oldest_at = head.oldest_at
        self.preceding_at = head.preceding_at
        n = head.ids
        self._prefixes: Words = np.frombuffer(body, "<u8", n)
        self.suffixes: Words = np.frombuffer(body, "<u8", n, 8 * n)
        self._positions: Words = np.frombuffer(body, "<u8", n, 16 * n)
        self._after_oldest: npt.NDArray[np.uint32] = np.frombuffer(body, "<u4", n, 24 * n)

    def __len__(self) -> int:
        return len(self._prefixes)

    def ids(self) -> Ids:
        """All of them, sorted by key."""
        return Ids(self._prefixes, self.suffixes, self._positions, self._ats(slice(None)))

    def rows_of(self, prefixes: Words, suffixes: Words) -> Indexes:
        """For each key its row in `ids()`; -1 when it is not here."""
        rows = np.searchsorted(self._prefixes, prefixes)
        found = np.full(len(rows), -1, np.int64)
        asked = np.arange(len(rows))
        # Keys that share their first half are neighbours: one step, as a rule, and then all are decided.
        while len(asked):
            inside = rows < len(self)
            asked, rows = asked[inside], rows[inside]
            same = self._prefixes[rows] == prefixes[asked]
            asked, rows = asked[same], rows[same]
            hit = self.suffixes[rows] == suffixes[asked]
            found[asked[hit]] = rows[hit]
            asked, rows = asked[~hit], rows[~hit] + 1
        return found

    def places(self, rows: Indexes) -> tuple[Words, Words]:
        """The positions of these rows, and when they were counted."""
        return self._positions[rows], self._ats(rows)

    def _ats(self, rows: "Indexes | slice") -> Words:
        return self._after_oldest[rows].astype(np.uint64) + np.uint64(self.oldest_at)


def sealed(folder: Path, coverage: Coverage, preceding_at: int, ids: Ids) -> Sealed:
    """The file of these ids (at least one), not written yet."""
    order = np.argsort(ids.prefixes, kind="stable")
    oldest_at = int(ids.ats.min())
    head = msgspec.json.encode(_Head(coverage, len(ids), oldest_at, preceding_at))
    head += b" " * (-(len(head) + _START.size) % _ALIGN)
    columns = [
        head,
        ids.prefixes[order].astype("<u8", copy=False).tobytes(),
        ids.suffixes[order].astype("<u8", copy=False).tobytes(),
        ids.positions[order].astype("<u8", copy=False).tobytes(),
        (ids.ats[order] - np.uint64(oldest_at)).astype("<u4").tobytes(),
    ]
    checksum = 0
    for column in columns:
        checksum = zlib.crc32(column, checksum)
    start = _START.pack(_MAGIC, checksum, len(head))
    return Sealed(folder / coverage.file_name, b"".join((start, *columns)))


def write(whole: Sealed) -> Segment:
    """Makes it a durable file that is whole or not there; returns it opened. Raises OSError."""
    path = whole.path
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(whole.content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError:
        remove(temporary)  # half a file would take the room that a full disk lacks
        raise
    _fsync_folder(path.parent)
    return open_segment(path)


def open_segment(path: Path) -> Segment:
    """Maps a file and checks all of it; CorruptSegment, or FileNotFoundError when it is gone."""
    with path.open("rb") as file:
        try:
            mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except ValueError as error:
            raise CorruptSegment("the file is empty") from error
    return parse(path, mapped)


def parse(path: Path, mapped: memoryview) -> Segment:
    """Checks the content of a file; CorruptSegment when it is not what was sealed."""
    if len(mapped) < _START.size:
        raise CorruptSegment("the file is cut off")
    magic, checksum, head_length = _START.unpack_from(mapped)
    if magic != _MAGIC or zlib.crc32(mapped[_START.size :]) != checksum:
        raise CorruptSegment("the checksum does not match")
    start = _START.size + head_length
    try:
        head = msgspec.json.decode(mapped[_START.size : start], type=_Head)
    except msgspec.MsgspecError as error:
        raise CorruptSegment(str(error)) from error
    return Segment(path, head, mapped[start:])


def put_aside(path: Path) -> None:
    """Renames a corrupt file, so that nobody opens it again and somebody may look at it."""
    with contextlib.suppress(FileNotFoundError):
        path.rename(path.with_name(f"{path.name}.corrupt"))


def remove(path: Path) -> None:
    """Removes a file that nobody needs; whoever has it mapped keeps what he has.

    One that can't be removed stays until the folder is opened again.
    """
    with contextlib.suppress(OSError):
        path.unlink()


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
