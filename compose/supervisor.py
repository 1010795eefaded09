"""Starts processes in order, starts again what dies, and stops all in the opposite order."""

import asyncio
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from compose.errors import NotReadyError
from compose.process import Process, ProcessSpec

log = structlog.get_logger(__name__)

_POLL_S = 0.05
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_STEADY_S = 5.0
"""A process that has run this long has started well: the next restart waits the first pause again."""
_TELL_AGAIN_S = 1.0


class Supervisor:
    """Runs groups of processes. `changed` is called with every change of the pids, at most one at a time.

    When `changed` raises OSError (its disk is full) it is called again soon: a process is kept running for
    all that.

    Groups are started one after the other, the processes of a group at the same time, and stopped from the
    last group to the first.
    """

    def __init__(self, logs: Path, changed: Callable[[list[Process]], None]) -> None:
        self._logs = logs
        self._changed = changed
        self._running: dict[int, Process] = {}
        self._groups: list[list[asyncio.Task[None]]] = []
        self._next = 0
        self._stopping = False
        self._telling_again: asyncio.TimerHandle | None = None

    @property
    def processes(self) -> list[Process]:
        """Those that run now."""
        return list(self._running.values())

    async def start(self, specs: Sequence[ProcessSpec]) -> None:
        """Starts a group and returns when all of it is ready.

        Raises NotReadyError when one ends, or isn't ready within its bound; stop() is then the caller's.
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        slots = [(self._next + i, spec) for i, spec in enumerate(specs)]
        self._next += len(specs)
        group: list[asyncio.Task[None]] = []
        self._groups.append(group)
        started: list[Process] = []
        for slot, spec in slots:
            process = await self._launch(slot, spec)
            started.append(process)
            group.append(asyncio.create_task(self._keep_running(slot, process), name=spec.log))
        waits = [asyncio.create_task(self._until_ready(process)) for process in started]
        try:
            await asyncio.gather(*waits)
        finally:
            for wait in waits:
                wait.cancel()

    async def stop(self) -> None:
        """Stops all, the last group first, the processes of a group at the same time."""
        self._stopping = True
        for group in reversed(self._groups):
            members = {task.get_name() for task in group}
            for task in group:
                task.cancel()
            await asyncio.gather(*group, return_exceptions=True)
            await asyncio.gather(*(p.stop() for p in self.processes if p.spec.log in members))
            self._running = {s: p for s, p in self._running.items() if p.spec.log not in members}
        self._tell()

    async def _launch(self, slot: int, spec: ProcessSpec) -> Process:
        process = await Process.start(spec, self._logs)
        self._running[slot] = process
        self._tell()
        return process

    def _tell(self) -> None:
        """Says which processes run now, once more in a while if that can't be written down."""
        if self._telling_again is not None:
            self._telling_again.cancel()
            self._telling_again = None
        try:
            self._changed(self.processes)
        except OSError as error:
            log.warning("the list of processes can't be written", error=str(error))
            if not self._stopping:
                self._telling_again = asyncio.get_running_loop().call_later(_TELL_AGAIN_S, self._tell)

    async def _until_ready(self, process: Process) -> None:
        spec = process.spec
        deadline = time.monotonic() + spec.ready_within_s
        while not await spec.is_ready():
            where = f"its log is {self._logs / spec.log}.log"
            if process.exit_code is not None:
                raise NotReadyError(
                    f"{spec.log} ended with code {process.exit_code} while it started; {where}"
                    f"{_last_lines(self._logs / f'{spec.log}.log')}"
                )
            if time.monotonic() > deadline:
                raise NotReadyError(f"{spec.log} was not ready within {spec.ready_within_s:.0f} s; {where}")
            await asyncio.sleep(_POLL_S)

    async def _keep_running(self, slot: int, process: Process) -> None:
        spec, pause = process.spec, _FIRST_PAUSE_S
        running: Process | None = process
        while True:
            if running is not None:
                started = time.monotonic()
                code = await running.ended()
                if self._stopping:
                    return
                del self._running[slot]
                self._tell()
                if time.monotonic() - started > _STEADY_S:
                    pause = _FIRST_PAUSE_S
                log.warning("process ended, starting it again", name=spec.log, code=code, pause_s=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)
            running = await self._try_to_launch(slot, spec)

    async def _try_to_launch(self, slot: int, spec: ProcessSpec) -> Process | None:
        """None when the system has no room for a process, or lacks its program: it may have later."""
        try:
            return await self._launch(slot, spec)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # RuntimeError: no new thread
            log.warning("process can't be started, trying again", name=spec.log, error=str(error))
            return None


def _last_lines(file: Path, count: int = 5) -> str:
    try:
        lines = file.read_text(errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        return ""
    return "".join(f"\n    {line}" for line in lines)
