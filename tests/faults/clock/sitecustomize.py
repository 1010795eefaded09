"""Steps the clock of a door or an aggregator that is started with this folder on PYTHONPATH.

FLIGHTLINE_STEPPED_CLOCK names a file with the seconds by which the clock is ahead, which may change at any
moment. Everybody else, the engines among them, keeps the machine's time.
"""

import os
import sys
import time
from pathlib import Path

_FILE = os.environ.get("FLIGHTLINE_STEPPED_CLOCK", "")
_STEPPED = {"ingest", "aggregator"}
_real_time, _real_time_ns = time.time, time.time_ns


def _ahead() -> int:
    return int(Path(_FILE).read_text())


if _FILE and _STEPPED & set(sys.orig_argv):
    time.time = lambda: _real_time() + _ahead()
    time.time_ns = lambda: _real_time_ns() + _ahead() * 1_000_000_000
