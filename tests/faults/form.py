"""How much is done: the short form is a part of `make test`, the long one is `make faults`."""

import os
import random

LONG = os.environ.get("FLIGHTLINE_FAULTS", "short") == "long"

ROUNDS = int(os.environ.get("FLIGHTLINE_FAULTS_ROUNDS", "25" if LONG else "1"))
"""How often each kind of process is killed."""

OUTAGE_S = 60.0 if LONG else 6.0
RECOVERED_WITHIN_S = 30.0 if LONG else 120.0
"""What the long form demands is what the product promises; the short one runs beside other tests."""


def seed() -> int:
    """Of all random choices; FLIGHTLINE_SEED makes a run choose the same again."""
    given = os.environ.get("FLIGHTLINE_SEED")
    return int(given) if given else random.SystemRandom().getrandbits(32)
