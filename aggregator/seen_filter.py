"""Filters in memory that say which sealed segments may hold an id, 32 of them asked at once.

Nearly every id is new, so nearly every look-up ends here. Each segment has a Bloom filter of 16 bits (2
bytes) an id; those of 32 segments are stored crosswise, bit i of all of them in one word. An id sets the same
bits in each, so the words of its bits, ANDed, have a bit left for each segment that may hold it. About 1
absent id in 1,000 passes a full filter. Filters side by side took the same memory and ten times as long.
"""

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Indexes = npt.NDArray[np.int64]

_BITS_AN_ID = 16
_HASHES = 8
_SEGMENTS_A_GROUP = 32
_HALF = np.uint64(32)
_ODD = np.uint64(1)
_PLACES = np.arange(_SEGMENTS_A_GROUP, dtype=np.uint32)


class FilterBank:
    """One filter for each segment, in slots; `ids` is how many ids one filter is made for."""

    def __init__(self, ids: int) -> None:
        self._bits = 1 << (ids * _BITS_AN_ID - 1).bit_length()
        self._groups: list[npt.NDArray[np.uint32]] = []
        self._free: list[int] = []

    @property
    def memory(self) -> int:
        """Bytes that all filters take."""
        return sum(group.nbytes for group in self._groups)

    def add(self, suffixes: Words) -> int:
        """A filter over these ids (second halves of their keys, uniformly distributed); returns its slot."""
        if not self._free:
            first = len(self._groups) * _SEGMENTS_A_GROUP
            self._free.extend(reversed(range(first, first + _SEGMENTS_A_GROUP)))
            self._groups.append(np.zeros(self._bits, np.uint32))
        slot = self._free.pop()
        group, place = divmod(slot, _SEGMENTS_A_GROUP)
        for bits in self._bits_of(suffixes):
            self._groups[group][bits] |= np.uint32(1 << place)
        return slot

    def remove(self, slot: int) -> None:
        """Empties the slot for another segment."""
        group, place = divmod(slot, _SEGMENTS_A_GROUP)
        self._groups[group] &= ~np.uint32(1 << place)
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
                which, place = np.nonzero(passes[index, None] >> _PLACES & np.uint32(1))
                indexes.append(index[which])
                slots.append(place + number * _SEGMENTS_A_GROUP)
        return np.concatenate(indexes), np.concatenate(slots)

    def _bits_of(self, suffixes: Words) -> list[Indexes]:
        """The bits that each id sets, an array for each hash (two hashes combined: Kirsch, Mitzenmacher)."""
        step = suffixes >> _HALF | _ODD
        last = np.uint64(self._bits - 1)
        return [((suffixes + np.uint64(n) * step) & last).astype(np.int64) for n in range(_HASHES)]
