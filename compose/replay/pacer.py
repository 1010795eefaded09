"""An open loop: when events are sent depends on the clock alone, not on how fast they are answered."""

_LONGEST_LAG_S = 1.0
"""A sender that was held up makes up for this much, then goes on at its rate: never a burst of minutes."""


class Pacer:
    """Pure: says how long to wait before the next events. `rate` is events per second, None for no bound."""

    def __init__(self, rate: float | None) -> None:
        self._seconds_each = 0.0 if rate is None else 1.0 / rate
        self._due: float | None = None

    def delay(self, events: int, now: float) -> float:
        """Seconds from `now` (of a monotonic clock) until these events are due and taken as sent."""
        due = now if self._due is None else max(self._due, now - _LONGEST_LAG_S)
        self._due = due + events * self._seconds_each
        return max(0.0, due - now) if self._seconds_each else 0.0
