"""What is done to processes."""

import contextlib
import os
import signal
from collections.abc import Iterable

import psutil

from tests.running import RunningStack

KINDS = ("ingest", "aggregator", "control_api", "kafka", "postgres", "clickhouse")
_STOPPED_WITHIN_S = 10


def kill(pids: Iterable[int], number: int = signal.SIGKILL) -> None:
    """The signal to all of them, as good as at once."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def everything(stack: RunningStack) -> list[int]:
    """The supervisor first, so that it starts nothing again, then all that it has started."""
    root = psutil.Process(stack.process.pid)
    return [root.pid, *(child.pid for child in root.children(recursive=True))]
