"""What tests do to processes: freeze them, with all of their threads and all that they have started."""

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from tests.running import until

_STOPPED_WITHIN_S = 10


@contextlib.contextmanager
def frozen(pids: Iterable[int]) -> Iterator[None]:
    """Processes that neither answer nor close their connections; the kernel accepts new ones for them."""
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
