"""ClickHouse is killed at the system call that makes a new part visible, after its token was logged."""

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.faults import form
from tests.faults.conftest import Breakable
from tests.faults.scene import now, scene

_STRACE = shutil.which("strace")
_CALLS = "rename,renameat,renameat2"
_HITS = 5
_MOST_KILLS = 40
_KILLED_WITHIN_S = 60
_NEW_PART = "tmp_insert_"

pytestmark = [
    form.only_long,
    pytest.mark.timeout(form.TIMEOUT_S),
    pytest.mark.skipif(_STRACE is None, reason="needs strace (apt-get install strace)"),
]


async def test_clickhouse_killed_at_the_rename_of_a_new_part_loses_and_doubles_nothing(
    breakable: Breakable, tmp_path: Path
) -> None:
    """A retry with the same token would be dropped as a copy, though the rows are gone."""
    title = f"kill -9 of ClickHouse at the rename of a new part, {_HITS} times"
    async with scene(breakable.stack, title, tmp_path) as under_load:
        hits = 0
        for number in range(_MOST_KILLS):
            await under_load.pause(0, 1)
            (pid,) = under_load.stack.ready.processes["clickhouse"]
            at = await killed_at_a_rename(pid, under_load.dice.randint(1, 3), tmp_path / str(number))
            hits += _NEW_PART in at
            await under_load.recovered(now())
            if hits == _HITS:
                break
        assert hits == _HITS, f"{_MOST_KILLS} kills, {hits} of them at a new part"


async def killed_at_a_rename(pid: int, which: int, trace: Path) -> str:
    """Kills the process at that rename of one of its threads; returns the call at which it died."""
    assert _STRACE is not None
    tracer = await asyncio.create_subprocess_exec(
        *(_STRACE, "-f", "-qq", "-s", "300", "-o", str(trace), "-p", str(pid)),
        *("-e", f"trace={_CALLS}", "-e", f"inject={_CALLS}:signal=KILL:when={which}"),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, said = await asyncio.wait_for(tracer.communicate(), _KILLED_WITHIN_S)
    finally:
        if tracer.returncode is None:
            tracer.kill()
            await tracer.wait()
    calls = [line for line in _lines(trace) if "rename" in line]
    assert calls, f"strace saw no rename: {said.decode()}"
    return calls[-1]


def _lines(trace: Path) -> list[str]:
    return trace.read_text().splitlines()
