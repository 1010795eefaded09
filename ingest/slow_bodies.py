"""Bodies that are sent too slowly: each would hold a connection for as long as its sender likes.

A sweep instead of a timer for each request: a timer costs as much as a third of the whole request.
"""

import asyncio
import time
from collections.abc import Callable

from granian.rsgi import (  # type: ignore[attr-defined]  # granian names none of them as an export
    ProtocolClosed,
    ProtocolError,
)

from ingest import bodies
from ingest.errors import Refusal
from schemas.door_problems import MALFORMED_BODY, TOO_SLOW

_SWEEPS_PER_LIMIT = 10


class BodyReader:
    """Reads bodies, each within `seconds`, or a tenth more."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._reading: dict[asyncio.Task[object], float] = {}
        self._overdue: set[asyncio.Task[object]] = set()

    async def read(self, body: bodies.Body, content_length: str | None, take: Callable[[int], None]) -> bytes:
        """The body as sent. Raises Refusal when it is too large, too slow, or breaks off, or by `take`."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("bodies are read by a task")
        self._reading[task] = time.monotonic()
        try:
            return await bodies.read(body, content_length, take)
        except asyncio.CancelledError:
            if task not in self._overdue:
                raise
            task.uncancel()
            raise Refusal(TOO_SLOW, f"a body must be sent within {self._seconds:g} seconds") from None
        except (ProtocolClosed, ProtocolError):
            raise Refusal(MALFORMED_BODY, "the body broke off") from None
        finally:
            del self._reading[task]
            self._overdue.discard(task)

    async def run(self) -> None:
        """Ends the reading of overdue bodies, until cancelled."""
        while True:
            await asyncio.sleep(self._seconds / _SWEEPS_PER_LIMIT)
            oldest = time.monotonic() - self._seconds
            for task, began in self._reading.items():
                if began < oldest and task not in self._overdue:
                    self._overdue.add(task)
                    task.cancel()
