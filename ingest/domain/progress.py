"""Whether a reader of a log still reads: a client's fetcher can end without a word."""

from collections.abc import Mapping
from typing import Generic, TypeVar

Part = TypeVar("Part")


class Progress(Generic[Part]):
    """Is shown, now and then, where a reader stands and where its partitions end (exclusive)."""

    def __init__(self) -> None:
        self._behind: dict[Part, int] = {}

    def stalled(self, positions: Mapping[Part, int], ends: Mapping[Part, int]) -> list[Part]:
        """The partitions that had something to read when this was asked last, and stand where they stood."""
        behind = {part: position for part, position in positions.items() if position < ends[part]}
        stalled = [part for part, position in behind.items() if self._behind.get(part) == position]
        self._behind = behind
        return stalled
