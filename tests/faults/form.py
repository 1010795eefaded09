"""How much is done: the short form is a part of `make test`, the long one is `make faults`."""

import os
import random

import pytest

LONG = os.environ.get("FLIGHTLINE_FAULTS", "short") == "long"

only_long = pytest.mark.skipif(not LONG, reason="a part of `make faults`")

ROUNDS = int(os.environ.get("FLIGHTLINE_FAULTS_ROUNDS", "25" if LONG else "1"))
"""How often each kind of process is killed."""

TIMEOUT_S = 1_800 if LONG else 600
"""Of a test that hangs."""
OUTAGE_S = 60.0
SOAK_S = float(os.environ.get("FLIGHTLINE_FAULTS_SOAK_S", "1200"))
SOAK_REQUESTS_PER_SECOND = float(os.environ.get("FLIGHTLINE_FAULTS_SOAK_RATE", "600"))
"""60 % of what two cores carry together with the client, by `python -m tests.bench.capacity`."""
RECOVERED_WITHIN_S = float(os.environ.get("FLIGHTLINE_FAULTS_WITHIN_S", "30" if LONG else "180"))
"""What the long form demands is what the product promises; the short one runs beside other tests."""


def seed() -> int:
    """Of all random choices; FLIGHTLINE_SEED makes a run choose the same again."""
    given = os.environ.get("FLIGHTLINE_SEED")
    return int(given) if given else random.SystemRandom().getrandbits(32)
