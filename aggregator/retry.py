"""Growing pauses between tries."""

import asyncio
import random
from collections.abc import AsyncIterator

from aggregator.errors import LogUnavailable, StoreError, StoreUnavailable
from aggregator.postgres import RETRYABLE

TRANSIENT = (StoreError, StoreUnavailable, LogUnavailable, *RETRYABLE)
"""What an engine that is away, busy or out of order raises: the same is tried again until it works."""

_FIRST_SECONDS = 0.05
_LONGEST_SECONDS = 5.0


async def tries(first: float = _FIRST_SECONDS, longest: float = _LONGEST_SECONDS) -> AsyncIterator[int]:
    """Yields 0 at once, then 1, 2, … for ever, each after a pause twice as long, with jitter."""
    pause = first
    number = 0
    while True:
        yield number
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  jitter, not a secret
        pause = min(pause * 2, longest)
        number += 1
