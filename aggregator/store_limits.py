"""What the stores of all partitions of a process may keep in memory, and when they store."""

import math

import msgspec

from aggregator import metrics


class RowBudget:
    """What all partitions of this process may keep in memory until it is stored: so many rows, and so many
    bytes, as their records take in the log."""

    def __init__(self, most_rows: int, most_bytes: int) -> None:
        self._most_rows = most_rows
        self._most_bytes = most_bytes
        self._rows = 0
        self._bytes = 0

    def take(self, rows: int, size: int) -> bool:
        """Whether `rows` more of `size` bytes may be kept."""
        if self._rows + rows > self._most_rows or self._bytes + size > self._most_bytes:
            return False
        self._change(rows, size)
        return True

    def give_back(self, rows: int, size: int) -> None:
        """Says that what was taken is not kept any more."""
        self._change(-rows, -size)

    def _change(self, rows: int, size: int) -> None:
        self._rows += rows
        self._bytes += size
        metrics.pending_rows.set(self._rows)


class StoreLimits(msgspec.Struct, frozen=True):
    """How far the moments at which blocks are due lie apart after a pause or while many rows come, and while
    few do (seconds); how many rows a block takes, and bytes of the log; when it is verified, and how often
    all blocks are."""

    linger_seconds: float
    interval_seconds: float
    max_rows: int
    max_bytes: int
    verify_after_seconds: float
    compare_all_every_seconds: float


def moment_after(at: float, every: float) -> float:
    """The next of the moments that lie `every` seconds apart, the same for all that ask; `at` itself when
    they don't lie apart, or when nothing was before (-inf)."""
    return (at // every + 1) * every if every and at > -math.inf else at
