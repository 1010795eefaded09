"""Where rate limits are counted: the library's storage in memory, without its threads."""

import threading
import time

from limits.storage import MemoryStorage

_SWEEP_SECONDS = 60.0


class Counters(MemoryStorage):
    """The library starts a thread to forget what has expired, again with nearly every request, and each looks
    at all that is counted. Here `sweep` does it, once a minute, for whoever comes then."""

    def __init__(self) -> None:
        super().__init__()
        self.timer.cancel()
        self.timer.join()
        self.timer = _NoTimer(0, lambda: None)
        self._swept = time.monotonic()

    def sweep(self) -> None:
        """Forgets what has expired, if that was not done a moment ago."""
        if time.monotonic() - self._swept < _SWEEP_SECONDS:
            return
        self._swept, now = time.monotonic(), time.time()
        for key in [key for key, until in self.expirations.items() if until <= now]:
            self.clear(key)


class _NoTimer(threading.Timer):
    """Says that it runs, so that no other one is started; never started itself."""

    def is_alive(self) -> bool:
        return True
