"""Steady traffic for a long time: nothing is lost, and no process grows."""

import asyncio
import gc
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults import form
from tests.faults.conftest import Breakable
from tests.faults.scene import now, scene
from tests.running import RunningStack

_EVERY_S = 2.0
_GROWTH = 1.2
_GROWTH_MIB = 48.0
_HEAP_AND_MORE_MIB = 900.0
"""Kafka's heap fills to its bound of 512 MiB before it is collected; beside it stands what a JVM takes."""
_FILLING_MIB = 0.0 if form.SOAK_S >= 1_200 else 180.0
"""In a short soak the tables of an aggregator's newest ids still fill: 45 MiB for each of 4 partitions."""

pytestmark = [form.only_long, pytest.mark.timeout(form.SOAK_S + 1_200)]


@pytest.fixture
def _without_a_collector() -> Iterator[None]:
    """The client keeps four million events in the end. To look them all through takes it seconds, in which it
    neither sends nor reads, and the doors have a connection more for each request that it is behind."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_without_a_collector")
async def test_a_soak_loses_and_doubles_nothing_with_flat_memory(
    breakable: Breakable, tmp_path: Path
) -> None:
    rate = form.SOAK_REQUESTS_PER_SECOND
    title = f"none: a soak of {form.SOAK_S:.0f} s at {rate:.0f} requests/s"
    sizes: dict[str, list[float]] = defaultdict(list)
    async with scene(breakable.stack, title, tmp_path, requests_per_second=rate) as under_load:
        ends = now() + form.SOAK_S
        while now() < ends:
            for name, size in resident(under_load.stack).items():
                sizes[name].append(size)
            await asyncio.sleep(_EVERY_S)
    print_and_judge(sizes)


def resident(stack: RunningStack) -> dict[str, float]:
    """MiB of each process, with all that it has started; without mapped files, which the kernel can drop."""
    found = {}
    for kind, pids in stack.ready.processes.items():
        for index, pid in enumerate(pids):
            process = psutil.Process(pid)
            family = [process, *process.children(recursive=True)]
            found[f"{kind} {index}"] = sum(_own_kib(member.pid) for member in family) / 1024
    return found


def _own_kib(pid: int) -> int:
    """Proportional: what Postgres' processes share counts once, and not once for each."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except (FileNotFoundError, ProcessLookupError):
        return 0  # a session of Postgres that has just ended
    sizes = {name: int(rest.split()[0]) for name, rest in (line.split(":", 1) for line in lines)}
    return sizes["Pss_Anon"] + sizes["Pss_Shmem"]


def print_and_judge(sizes: dict[str, list[float]]) -> None:
    grown = []
    for name, each in sizes.items():
        quarter = max(1, len(each) // 4)
        parts = [each[start : start + quarter] for start in range(0, 4 * quarter, quarter)]
        _, early, later, late = (sum(part) / max(1, len(part)) for part in parts)
        print(f"{name}: {early:.0f}, {later:.0f}, {late:.0f} MiB in the quarters after the first")  # noqa: T201
        bound = _HEAP_AND_MORE_MIB if name.startswith("kafka") else early * _GROWTH + _GROWTH_MIB
        if name.startswith("aggregator"):
            bound += _FILLING_MIB
        if late > bound:
            grown.append(name)
    assert not grown
