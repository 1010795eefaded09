"""Whether to wait for Kafka: after the first failure nobody does, until one record has come through."""

from enum import StrEnum


class State(StrEnum):
    """CLOSED as a switch is: everything passes. HALF_OPEN: one record tries, and decides for all."""

    CLOSED = "closed"
    HALF_OPEN = "half-open"
    OPEN = "open"


class Circuit:
    """Begins open. `pause` (seconds) is what to wait before the next attempt; each failure doubles it."""

    def __init__(self, first_pause: float, longest_pause: float) -> None:
        self.state = State.OPEN
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._failures = 0
        self._trying = False

    @property
    def pause(self) -> float:
        """0 while nothing has failed since the last success."""
        if not self._failures:
            return 0.0
        return min(self._first_pause * 2.0 ** min(self._failures - 1, 30), self._longest_pause)

    def connected(self) -> None:
        """There is a connection. It proves nothing once something has failed: one record has to try it."""
        self.state = State.HALF_OPEN if self._failures else State.CLOSED
        self._trying = False

    def admits(self) -> bool:
        """Whether the record that asks may be sent; in HALF_OPEN the first that asks, until its end."""
        if self.state is State.HALF_OPEN and not self._trying:
            self._trying = True
            return True
        return self.state is State.CLOSED

    def succeeded(self) -> None:
        """A record was confirmed."""
        self.state = State.CLOSED
        self._failures = 0
        self._trying = False

    def failed(self) -> None:
        """A record was not confirmed in time, or there is no connection."""
        self.state = State.OPEN
        self._failures += 1
        self._trying = False
