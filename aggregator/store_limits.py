"""What the stores of all partitions of a process may keep in memory, and when they store."""

import msgspec

from aggregator import metrics


class RowBudget:
    """How many rows all partitions of this process may keep in memory until they are stored."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0

    def take(self, rows: int) -> bool:
        """Whether `rows` more may be kept."""
        if self._used + rows > self._limit:
            return False
        self._used += rows
        metrics.pending_rows.set(self._used)
        return True

    def give_back(self, rows: int) -> None:
        """Says that `rows` that were taken are not kept any more."""
        self._used -= rows
        metrics.pending_rows.set(self._used)


class StoreLimits(msgspec.Struct, frozen=True):
    """How long a block waits for more batches (seconds), how many rows it takes, when it is verified, and how
    often all blocks are."""

    linger_seconds: float
    max_rows: int
    verify_after_seconds: float
    compare_all_every_seconds: float
