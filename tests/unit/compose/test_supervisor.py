"""Whatever the disk and the system refuse, a process that died is started again."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
import structlog

from compose.process import Process, ProcessSpec
from compose.supervisor import Supervisor

FULL = OSError(28, "No space left on device")


async def ready() -> bool:
    return True


def spec(program: Path) -> ProcessSpec:
    argv: list[str | Path] = [program, "-c", "import time; time.sleep(600)"]
    return ProcessSpec(name="sleeper", log="sleeper", argv=argv, is_ready=ready)


class Told:
    """Takes what a supervisor tells, unless its disk is full."""

    def __init__(self) -> None:
        self.pids: list[int] = []
        self.full = False

    def __call__(self, processes: list[Process]) -> None:
        if self.full:
            raise FULL
        self.pids = [process.pid for process in processes]


@pytest_asyncio.fixture
async def told() -> Told:
    return Told()


@pytest_asyncio.fixture
async def supervisor(tmp_path: Path, told: Told) -> AsyncIterator[Supervisor]:
    made = Supervisor(tmp_path / "logs", told)
    yield made
    told.full = False
    await made.stop()
    assert told.pids == []


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


def replaced(supervisor: Supervisor, pid: int) -> bool:
    return [process.pid for process in supervisor.processes] not in ([], [pid])


async def test_a_process_that_dies_while_the_disk_is_full_is_started_again_and_told_when_there_is_room(
    supervisor: Supervisor, told: Told
) -> None:
    await supervisor.start([spec(Path(sys.executable))])
    (old,) = told.pids
    told.full = True
    os.kill(old, 9)
    await until(lambda: replaced(supervisor, old))
    assert told.pids == [old]
    told.full = False
    await until(lambda: told.pids == [process.pid for process in supervisor.processes])


async def test_a_process_that_cannot_be_started_for_a_while_is_tried_again(
    supervisor: Supervisor, told: Told, tmp_path: Path
) -> None:
    program = tmp_path / "python"
    program.symlink_to(sys.executable)
    await supervisor.start([spec(program)])
    (old,) = told.pids
    hidden = program.rename(tmp_path / "hidden")
    with structlog.testing.capture_logs() as logged:
        os.kill(old, 9)
        await until(lambda: sum("can't be started" in line["event"] for line in logged) >= 2)
    hidden.rename(program)
    await until(lambda: replaced(supervisor, old))


async def test_where_there_is_no_room_for_a_thread_it_is_tried_again(
    supervisor: Supervisor, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    await supervisor.start([spec(Path(sys.executable))])
    (old,), start, failures = told.pids, Process.start, [RuntimeError("can't start new thread")] * 2

    async def start_later(wanted: ProcessSpec, logs: Path) -> Process:
        if failures:
            raise failures.pop()
        return await start(wanted, logs)

    monkeypatch.setattr(Process, "start", start_later)
    os.kill(old, 9)
    await until(lambda: replaced(supervisor, old))


async def test_what_was_started_beside_a_process_that_cannot_be_is_stopped(
    tmp_path: Path, told: Told
) -> None:
    supervisor = Supervisor(tmp_path / "logs", told)
    with pytest.raises(FileNotFoundError):
        await supervisor.start([spec(Path(sys.executable)), spec(tmp_path / "missing")])
    (started,) = told.pids
    await supervisor.stop()
    assert told.pids == []
    assert not psutil.pid_exists(started)


def test_a_line_of_the_log_that_cannot_be_written_ends_nothing() -> None:
    logs_to_a_full_disk = (
        "import os, sys; sys.stdout = open('/dev/full', 'w')\n"
        "import structlog; from compose.log import configure; configure()\n"
        "structlog.get_logger().warning('x')\n"
        "os._exit(7)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", logs_to_a_full_disk], check=False, capture_output=True, timeout=60
    )
    assert ended.returncode == 7, ended.stderr
