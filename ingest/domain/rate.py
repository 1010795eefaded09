"""Limits of events per second."""

_NEVER_SECONDS = 3600.0
"""What a key with a limit of 0 is told to wait."""


class TokenBucket:
    """Takes `rate` events per second on average and `burst` at once. Times are seconds of a monotonic clock.

    A request larger than the burst passes when the bucket is full and leaves a debt, because it would never
    pass otherwise.
    """

    def __init__(self, rate: int, burst: int, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = float(burst)
        self._at = now

    def take(self, events: int, now: float) -> float:
        """0 when the events may pass, else the seconds after which they will."""
        wait = self.wait(events, now)
        if not wait:
            self._tokens -= events
        return wait

    def wait(self, events: int, now: float) -> float:
        """As `take`, but takes nothing."""
        self._tokens = min(self.burst, self._tokens + max(0.0, now - self._at) * self.rate)
        self._at = now
        missing = min(events, self.burst) - self._tokens
        if missing > 0:
            return missing / self.rate if self.rate > 0 else _NEVER_SECONDS
        return 0.0
