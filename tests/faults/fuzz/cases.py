"""How many cases, from which seed: seconds of them in `make test`, a million of each kind in `make fuzz`."""

import os
import random
import time
from collections.abc import Iterator

from tests.faults import form

CASES = int(os.environ.get("FLIGHTLINE_FUZZ_CASES", "0"))
"""Of each kind; 0 is the short form, which ends after some seconds."""

_SHORT_S = 3.0


def dice(what: str) -> random.Random:
    """Of one kind; its seed is printed."""
    seed = form.seed()
    print(f"{what}: FLIGHTLINE_SEED={seed}")  # noqa: T201  a finding is made again with it
    return random.Random(seed)  # noqa: S311  choices, not secrets


def numbers(share: float = 1.0) -> Iterator[int]:
    """One for each case; `share` is the part of the long form that a slow kind does."""
    ends, number = time.monotonic() + _SHORT_S, 0
    while number < CASES * share or (not CASES and time.monotonic() < ends):
        yield number
        number += 1
    print(f"{number:,} cases")  # noqa: T201  a figure of the document
