"""Filters in memory that say which sealed segments may hold an id, all of them asked at once.

Nearly every id is new, so nearly every look-up ends here. A filter is a Bloom filter whose bits for one id
lie in one block of 128 bits; the same block of 16 segments lies side by side, so that one read of memory
answers for all of them. At 16 bits an id (2 bytes) with 8 bits set, about 1 in 1,000 absent ids passes a full
filter (tests/unit/aggregator/test_seen_ids.py holds it below 1 in 500).
"""

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Indexes = npt.NDArray[np.int64]

MAX_IDS = 1 << 18
"""Above this a block's number and the places of 8 bits (6 bits each) would not fit half a key (64 bits)."""

_BITS_AN_ID = 16
_BLOCK_WORDS = 2
_BITS_A_WORD = 4
_WORD = 64
_WORD_LOG2 = np.uint64(6)
_WORD_MASK = np.uint64(_WORD - 1)
_SEGMENTS_A_GROUP = 16
_ONE = np.uint64(1)


class FilterBank:
    """One filter for each segment, in slots; `ids` is how many one filter is made for."""

    def __init__(self, ids: int) -> None:
        if not 0 < ids <= MAX_IDS:
            raise ValueError(f"a filter holds 1 to {MAX_IDS} ids, not {ids}")
        blocks = max(1, ids * _BITS_AN_ID // (_WORD * _BLOCK_WORDS))
        self._blocks = 1 << (blocks - 1).bit_length()
        self._block_bits = np.uint64(self._blocks.bit_length() - 1)
        self._groups: list[Words] = []
        self._free: list[int] = []

    @property
    def memory(self) -> int:
        """Bytes that all filters take."""
        return sum(group.nbytes for group in self._groups)

    def add(self, suffixes: Words) -> int:
        """A filter over these ids (the second halves of their keys); returns its slot."""
        if not self._free:
            first = len(self._groups) * _SEGMENTS_A_GROUP
            self._free.extend(reversed(range(first, first + _SEGMENTS_A_GROUP)))
            self._groups.append(np.zeros((self._blocks, _BLOCK_WORDS, _SEGMENTS_A_GROUP), np.uint64))
        slot = self._free.pop()
        group, place = divmod(slot, _SEGMENTS_A_GROUP)
        blocks, masks = self._bits(suffixes)
        for word in range(_BLOCK_WORDS):
            column = np.zeros(self._blocks, np.uint64)
            np.bitwise_or.at(column, blocks, masks[:, word])
            self._groups[group][:, word, place] = column
        return slot

    def remove(self, slot: int) -> None:
        """Empties the slot for another segment."""
        group, place = divmod(slot, _SEGMENTS_A_GROUP)
        self._groups[group][:, :, place] = 0
        self._free.append(slot)

    def candidates(self, suffixes: Words) -> tuple[Indexes, Indexes]:
        """Pairs (index into `suffixes`, slot) whose filter lets the id pass: its segment must be asked."""
        blocks, masks = self._bits(suffixes)
        wanted = masks[:, :, None]
        indexes: list[Indexes] = []
        slots: list[Indexes] = []
        for number, group in enumerate(self._groups):
            passes = ((group[blocks] & wanted) == wanted).all(axis=1)
            index, place = np.nonzero(passes)
            if len(index):
                indexes.append(index)
                slots.append(place + number * _SEGMENTS_A_GROUP)
        if not indexes:
            nothing = np.empty(0, np.int64)
            return nothing, nothing
        return np.concatenate(indexes), np.concatenate(slots)

    def _bits(self, suffixes: Words) -> tuple[Indexes, Words]:
        """For each id the number of its block, and the bits that it sets in each word of it."""
        blocks = (suffixes & np.uint64(self._blocks - 1)).astype(np.int64)
        rest = suffixes >> self._block_bits
        masks = np.zeros((len(suffixes), _BLOCK_WORDS), np.uint64)
        for word in range(_BLOCK_WORDS):
            for _ in range(_BITS_A_WORD):
                masks[:, word] |= _ONE << (rest & _WORD_MASK)
                rest = rest >> _WORD_LOG2
        return blocks, masks
