"""One child process: started in its own group, its output kept in a bounded log, ended with its parent."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]  # it has no annotations

_PR_SET_PDEATHSIG = 1
_LOG_BYTES = 16 * 1024 * 1024
_CHUNK = 65536

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class ProcessSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How one process is started, known to be ready, and stopped."""

    name: str
    """Its role in the ready file; several processes may have the same."""
    log: str
    """The name of its log file, without the ending."""
    argv: Sequence[str | Path]
    env: Mapping[str, str] = {}
    """Added to the environment of the parent."""
    user: int | None = None
    """The uid (and gid) it runs as, when this process is root."""
    is_ready: Callable[[], Awaitable[bool]]
    """Asked again and again while it starts; must answer within a second or so."""
    ready_within_s: float = 60.0
    stop_signal: signal.Signals = signal.SIGTERM
    """Asks for a clean end; also sent by the kernel when the supervisor has died."""
    stop_within_s: float = 15.0


def die_with_parent(with_signal: int, parent: int) -> Callable[[], None]:
    """For `preexec_fn`: the kernel signals the child when its parent ends, however that ends (Linux only)."""

    def ask_the_kernel() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, with_signal)
            if os.getppid() != parent:  # it died before we had asked
                os.kill(os.getpid(), signal.SIGKILL)

    return ask_the_kernel


class Process:
    """A running child. Its pid and the time of its start identify it beyond the reuse of pids."""

    def __init__(self, spec: ProcessSpec, child: asyncio.subprocess.Process, log: Path) -> None:
        self.spec = spec
        self.pid = child.pid
        self.started_at = _started_at(child.pid)
        self._child = child
        self._copying = asyncio.create_task(_copy_output(child, log), name=f"log of {spec.log}")

    @classmethod
    async def start(cls, spec: ProcessSpec, logs: Path) -> "Process":
        """Starts it; readiness is the caller's to await."""
        child = await asyncio.create_subprocess_exec(
            *map(str, spec.argv),
            env={**os.environ, **spec.env},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent(spec.stop_signal, os.getpid()),
            user=spec.user,
            group=spec.user,
            extra_groups=None if spec.user is None else [],
        )
        return cls(spec, child, logs / f"{spec.log}.log")

    @property
    def exit_code(self) -> int | None:
        return self._child.returncode

    async def ended(self) -> int:
        """Waits for its end and sweeps what it left in its group; returns the exit code."""
        code = await self._child.wait()
        self._signal_group(signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._copying), 2)
        return code

    async def stop(self) -> None:
        """Asks it to end, and ends it with its whole group when the bound has passed."""
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(self.spec.stop_signal)
        try:
            await asyncio.wait_for(self._child.wait(), self.spec.stop_within_s)
        except TimeoutError:
            self._signal_group(signal.SIGKILL)
        await self.ended()

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


async def _copy_output(child: asyncio.subprocess.Process, log: Path) -> None:
    """Appends to the log; the one before is kept as `.1` when it is full. A full disk stops no child."""
    assert child.stdout is not None  # noqa: S101 - it was started with a pipe
    while chunk := await child.stdout.read(_CHUNK):
        with contextlib.suppress(OSError):
            _append(log, chunk)


def _append(log: Path, chunk: bytes) -> None:
    if log.exists() and log.stat().st_size + len(chunk) > _LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as file:
        file.write(chunk)


def _started_at(pid: int) -> float:
    """0 when it has ended already, or can't be asked: a child that runs must not be lost for that."""
    try:
        return float(psutil.Process(pid).create_time())
    except (psutil.Error, OSError):
        return 0.0


def end_leftovers(recorded: Sequence[tuple[int, float]]) -> int:
    """Kills what an earlier, killed stack left: (pid, time of start) that are still the same process.

    Returns how many there were.
    """
    alive = [process for pid, started in recorded if (process := _same(pid, started))]
    for process in alive:
        for member in [*_children(process), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
    psutil.wait_procs(alive, timeout=10)
    return len(alive)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _same(pid: int, started_at: float) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        return process if abs(process.create_time() - started_at) < 1 else None
    except psutil.NoSuchProcess:
        return None
