"""What `/metrics` shows: everybody may ask, so it may cost the door only so much."""

from prometheus_client import generate_latest

from ingest.domain.rate import TokenBucket

_RENDERED_A_SECOND = 50
"""At most: each takes about 0.8 ms, so all of them 4 % of a core."""
_RENDERED_AT_ONCE = 100


class Exposition:
    """Renders all metrics, or gives what was rendered last when that would be too often.

    Times are seconds of a monotonic clock. What is given is 1/50 s old at most, and as a rule new.
    """

    def __init__(self, now: float) -> None:
        self._bucket = TokenBucket(_RENDERED_A_SECOND, _RENDERED_AT_ONCE, now)
        self._rendered = b""

    def text(self, now: float) -> bytes:
        """In the format of Prometheus."""
        if not self._rendered or not self._bucket.take(1, now):
            self._rendered = generate_latest()
        return self._rendered
