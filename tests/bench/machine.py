"""What processes cost: CPU seconds, memory, and which core they may use."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_CORES = sorted(os.sched_getaffinity(0))
MEASURED_CORE = (_CORES[0],)
"""For the process that is measured; whatever is beside it shares the others."""
OTHER_CORES = tuple(_CORES[1:]) or MEASURED_CORE


@dataclass
class Spent:
    """Seconds on the wall and of CPU, by process. `client` is this one."""

    wall: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)


@contextmanager
def spending(**pids: int) -> Iterator[Spent]:
    """Measures while the block runs. Whatever a process has started counts with it."""
    spent = Spent()
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    own, started = time.process_time(), time.perf_counter()
    yield spent
    spent.wall = time.perf_counter() - started
    spent.cpu = {name: cpu_seconds(pid) - before[name] for name, pid in pids.items()}
    spent.cpu["client"] = time.process_time() - own


def cpu_seconds(pid: int) -> float:
    """Of a process with all of its threads and children, also those that have ended."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


def memory_mb(pid: int) -> float:
    """Megabytes (10⁶) of its own that a process has in memory, and its part of what it shares; files that are
    only mapped are the kernel's to drop."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    wanted = ("Pss_Anon:", "Pss_Shmem:")
    return sum(int(line.split()[1]) for line in rollup if line.startswith(wanted)) * 1024 / 1e6


def pin(pid: int, cores: tuple[int, ...]) -> None:
    """Keeps a process, with its threads and children, on these cores."""
    for member in [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]:
        with suppress(FileNotFoundError, ProcessLookupError):
            for thread in Path(f"/proc/{member}/task").iterdir():
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread.name), cores)


@contextmanager
def beside() -> Iterator[None]:
    """This process keeps to the other cores while the block runs. Start nothing in it that shall not."""
    os.sched_setaffinity(0, OTHER_CORES)
    try:
        yield
    finally:
        os.sched_setaffinity(0, _CORES)
