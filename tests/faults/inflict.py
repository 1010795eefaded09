"""What is done to processes."""

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from tests.running import RunningStack, until

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


@contextlib.contextmanager
def frozen(pids: Iterable[int]) -> Iterator[None]:
    """Processes that neither answer nor close their connections; with all that they have started."""
    members = [member for pid in pids for member in _family(pid)]
    for pid in members:
        os.kill(pid, signal.SIGSTOP)
    # The signal reaches the threads of a process one by one: the last of them could still answer.
    until(lambda: all(_is_stopped(pid) for pid in members), _STOPPED_WITHIN_S, "stopped threads")
    try:
        yield
    finally:
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _family(pid: int) -> list[int]:
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def _is_stopped(pid: int) -> bool:
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return all((thread / "stat").read_text().rpartition(")")[2].split()[0] in "TZX" for thread in threads)
    except (FileNotFoundError, ProcessLookupError):
        return True
