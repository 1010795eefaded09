"""Steady traffic for a long time: nothing is lost, and no process grows."""

import asyncio
from collections import defaultdict
from pathlib import Path

import psutil
import pytest

from tests.faults import form
from tests.faults.conftest import Breakable
from tests.faults.scene import now, scene
from tests.running import RunningStack

_MIB = 1024 * 1024
_EVERY_S = 2.0
_GROWTH = 1.2
_GROWTH_MIB = 48.0
_HEAP_AND_MORE_MIB = 900.0
"""Kafka's heap fills to its bound of 512 MiB before it is collected; beside it stands what a JVM takes."""

pytestmark = [form.only_long, pytest.mark.timeout(form.SOAK_S + 1_200)]


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
    """MiB of each process, with all that it has started."""
    found = {}
    for kind, pids in stack.ready.processes.items():
        for index, pid in enumerate(pids):
            process = psutil.Process(pid)
            family = [process, *process.children(recursive=True)]
            # Shared memory counts once in what is proportional, and as often as there are processes in RSS.
            found[f"{kind} {index}"] = sum(member.memory_full_info().pss for member in family) / _MIB
    return found


def print_and_judge(sizes: dict[str, list[float]]) -> None:
    grown = []
    for name, each in sizes.items():
        quarter = max(1, len(each) // 4)
        early = sum(each[quarter : 2 * quarter]) / max(1, len(each[quarter : 2 * quarter]))
        late = sum(each[-quarter:]) / quarter
        print(f"{name}: {early:.0f} MiB in the second quarter, {late:.0f} in the last")  # noqa: T201
        bound = _HEAP_AND_MORE_MIB if name.startswith("kafka") else early * _GROWTH + _GROWTH_MIB
        if late > bound:
            grown.append(name)
    assert not grown
