"""The end of the process: told to balancers before anything is refused, and not before all is answered."""

import asyncio
import contextlib
from collections.abc import Iterator


class Life:
    """`stopping` is set by SIGTERM: /ready answers 503 from then on, while requests are still served."""

    def __init__(self) -> None:
        self.stopping = False
        self._requests = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Around each request that is being answered."""
        self._requests += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._requests -= 1
            if not self._requests:
                self._idle.set()

    async def until_idle(self, seconds: float) -> bool:
        """Waits so long at most until no request is being answered; whether that came."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)
        return not self._requests
