"""Starts real stacks for tests, and makes databases in them that no other test module uses."""

import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg
import clickhouse_connect
import msgspec

from compose.layout import HOST, is_free
from compose.process import die_with_parent
from sql.migrate import ClickHouseLayout, migrate_clickhouse, migrate_postgres

_PORTS = 32
_START_WITHIN_S = 120
_STOP_WITHIN_S = 60
_SHOWN_LINES = 15


class ReadyFile(msgspec.Struct, frozen=True, kw_only=True):
    """What `flightline up` says in its ready file."""

    ingest: str
    control_api: str
    grpc: str
    clickhouse: str
    postgres: str
    kafka: str
    admin_token: str
    write_key: str
    server_key: str
    processes: dict[str, list[int]]


class RunningStack:
    """A `flightline up` that this test session started."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", state: Path, ready_file: Path, output: Path
    ) -> None:
        self.process = process
        self.state = state
        self.ready_file = ready_file
        self._output = output

    @property
    def ready(self) -> ReadyFile:
        """Read anew each time: it changes when a process is started again."""
        return msgspec.json.decode(self.ready_file.read_bytes(), type=ReadyFile)

    @property
    def output(self) -> str:
        """What the command printed until now."""
        return self._output.read_text(errors="replace")

    def log(self, name: str) -> str:
        """The log of one process, such as `ingest-0`."""
        return (self.state / "logs" / f"{name}.log").read_text(errors="replace")

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """As Ctrl-C does; returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(_STOP_WITHIN_S)

    async def fresh_postgres(self, *, migrated: bool = True) -> str:
        """The address of a new database."""
        name = f"t{uuid.uuid4().hex[:12]}"
        server = self.ready.postgres
        connection = await asyncpg.connect(server)
        await connection.execute(f'CREATE DATABASE "{name}"')
        await connection.close()
        address = f"{server.rpartition('/')[0]}/{name}"
        if migrated:
            connection = await asyncpg.connect(address)
            await migrate_postgres(connection)
            await connection.close()
        return address

    async def fresh_clickhouse(self, *, migrated: bool = True) -> str:
        """The address of a new database."""
        name = f"t{uuid.uuid4().hex[:12]}"
        server = self.ready.clickhouse
        client = await clickhouse_connect.get_async_client(dsn=server)
        await client.command(f"CREATE DATABASE {name}")
        await client.close()
        address = f"{server.rpartition('/')[0]}/{name}"
        if migrated:
            client = await clickhouse_connect.get_async_client(dsn=address)
            await migrate_clickhouse(client, ClickHouseLayout())
            await client.close()
        return address


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for states, removed afterwards.

    Not below pytest's own: every pytest that starts on the machine closes that to other users, and Postgres
    runs as one of them when the tests run as root.
    """
    path = Path(tempfile.mkdtemp(prefix="flightline-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def free_port_base() -> int:
    """The first of a run of free ports, below those that the kernel gives to clients."""
    return _taken(range(22_000, 32_000, _PORTS), _PORTS)


def free_port() -> int:
    """A port for one process, below those of stacks.

    Not one that the kernel chooses: until the process listens, it could give that to any client's connection.
    """
    return _taken(range(20_000, 22_000), 1)


def _taken(choice: range, run: int) -> int:
    """A run of free ports that no other tests on this machine use while this process lives.

    That they are free says little: a stack that is killed and comes back leaves its own for some seconds.
    """
    folder = Path(tempfile.gettempdir()) / "flightline-ports"
    folder.mkdir(exist_ok=True)
    for base in random.sample(choice, len(choice)):
        descriptor = os.open(folder / str(base), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        if all(is_free(base + offset) for offset in range(run)):
            return base  # the lock is held as long as its descriptor is open, which nobody closes
        os.close(descriptor)
    raise AssertionError(f"no {run} free ports in a row on {HOST}")


@contextmanager
def running_stack(
    state: Path, *arguments: str, port_base: int | None = None, env: dict[str, str] | None = None
) -> Iterator[RunningStack]:
    """`flightline up` on this state; stopped, with all of its processes, at the end of the block."""
    state.parent.mkdir(parents=True, exist_ok=True)
    ready_file = state.with_name(f"{state.name}.ready.json")
    output = state.with_name(f"{state.name}.output")
    command = [sys.executable, "-m", "compose.cli", "up", "--state", str(state)]
    command += [
        "--port-base",
        str(port_base or free_port_base()),
        "--ready-file",
        str(ready_file),
        *arguments,
    ]
    with output.open("ab") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            preexec_fn=die_with_parent(signal.SIGTERM, os.getpid()),  # noqa: PLW1509 - a system call only
        )
    stack = RunningStack(process, state, ready_file, output)
    try:
        until(lambda: ready_file.exists() or process.poll() is not None, _START_WITHIN_S, "ready file")
        assert process.poll() is None, f"`up` ended with {process.returncode}:\n{stack.output}"
        yield stack
    except BaseException:
        _show_logs(state / "logs")
        raise
    finally:
        _end(process)


def _show_logs(logs: Path) -> None:
    """The last lines of each process, because the state is removed."""
    for log in sorted(logs.glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()[-_SHOWN_LINES:]
        print(f"--- {log.name}", *(line[:300] for line in lines), sep="\n")  # noqa: T201


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_WITHIN_S)
    if process.poll() is None:
        process.kill()
        process.wait(10)


def until(condition: Callable[[], object], within_s: float, what: str) -> None:
    """Polls until the condition holds; fails the test when it does not in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {within_s:.0f} s"
        time.sleep(0.05)
