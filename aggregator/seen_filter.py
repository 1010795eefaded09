"""Filters in memory that say which sealed segments may hold an id, 32 of them asked at once.

Nearly every id is new, so nearly every look-up ends here. Each segment has a Bloom filter of 16 bits (2
bytes) an id; those of 32 segments are stored crosswise, bit i of all of them in one word. An id sets the same
bits in each, so the words of its bits, ANDed, have a bit left for each segment that may hold it. About 1
absent id in 1,000 passes a full filter. Filters side by side took the same memory and ten times as long.
Words are as wide as a group has segments: with eight of them at most, a partition takes a quarter.
"""

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Indexes = npt.NDArray[np.int64]
Group = npt.NDArray[np.uint8 | np.uint16 | np.uint32]

_BITS_AN_ID = 16
_HASHES = 8
_WIDTHS = (np.uint8, np.uint16, np.uint32)
_SEGMENTS_A_GROUP = 32
_HALF = np.uint64(32)
_ODD = np.uint64(1)
_PLACES = np.arange(_SEGMENTS_A_GROUP, dtype=np.uint32)


class FilterBank:
    """One filter for each segment, in slots; `ids` is how many ids one filter is made for."""

    def __init__(self, ids: int) -> None:
        self._bits = 1 << (ids * _BITS_AN_ID - 1).bit_length()
        self._groups: list[Group] = []
        self._free: list[int] = []

    @property
    def memory(self) -> int:
        """Bytes that all filters take."""
        return sum(group.nbytes for group in self._groups)

    def add(self, suffixes: Words) -> int:
        """A filter over these ids (second halves of their keys, uniformly distributed); returns its slot."""
        if not self._free:
            self._make_room()
        slot = self._free.pop()
        number, place = divmod(slot, _SEGMENTS_A_GROUP)
        group = self._groups[number]
        for bits in self._bits_of(suffixes):
            group[bits] |= group.dtype.type(1 << place)
        return slot

    def remove(self, slot: int) -> None:
        """Empties the slot for another segment."""
        number, place = divmod(slot, _SEGMENTS_A_GROUP)
        group = self._groups[number]
        group &= ~group.dtype.type(1 << place)
        self._free.append(slot)

    def candidates(self, suffixes: Words) -> tuple[Indexes, Indexes]:
        """Pairs (index into `suffixes`, slot) whose filter lets the id pass: its segment must be asked."""
        bits = self._bits_of(suffixes)
        indexes: list[Indexes] = [np.empty(0, np.int64)]
        slots: list[Indexes] = [np.empty(0, np.int64)]
        for number, group in enumerate(self._groups):
            passes = group[bits[0]]
            for each in bits[1:]:
                passes &= group[each]
            index = np.flatnonzero(passes)
            if len(index):
                left = passes[index].astype(np.uint32)
                which, place = np.nonzero(left[:, None] >> _PLACES & np.uint32(1))
                indexes.append(index[which])
                slots.append(place + number * _SEGMENTS_A_GROUP)
        return np.concatenate(indexes), np.concatenate(slots)

    def _make_room(self) -> None:
        """The last group gets wider words; when it has the widest, another one begins."""
        used = 0
        if self._groups and self._groups[-1].dtype != _WIDTHS[-1]:
            narrow = self._groups.pop()
            used = narrow.itemsize * 8
            self._groups.append(narrow.astype(_WIDTHS[_WIDTHS.index(narrow.dtype.type) + 1]))
        else:
            self._groups.append(np.zeros(self._bits, _WIDTHS[0]))
        first = (len(self._groups) - 1) * _SEGMENTS_A_GROUP
        room = self._groups[-1].itemsize * 8
        self._free.extend(reversed(range(first + used, first + room)))

    def _bits_of(self, suffixes: Words) -> list[Indexes]:
        """The bits that each id sets, an array for each hash (two hashes combined: Kirsch, Mitzenmacher)."""
        step = suffixes >> _HALF | _ODD
        last = np.uint64(self._bits - 1)
        return [((suffixes + np.uint64(n) * step) & last).astype(np.int64) for n in range(_HASHES)]
