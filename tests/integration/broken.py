"""Ways to break what a door depends on."""

import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.running import RunningStack

_MOUNT, _UMOUNT = shutil.which("mount"), shutil.which("umount")


def broker(engines: RunningStack) -> int:
    """The pid of Kafka."""
    return engines.ready.processes["kafka"][0]


@contextmanager
def full_disk(pid: int, bytes_a_file: int) -> Iterator[None]:
    """A process whose files can't grow beyond so many bytes: what it writes beyond that is refused."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (bytes_a_file, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system of its own at the folder, of a size such as `2m`. Skips where none may be mounted."""
    if _MOUNT is None or _UMOUNT is None:
        pytest.skip("there is no mount command here")
    mounted = subprocess.run(
        [_MOUNT, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield
    finally:
        # Lazily: whatever still holds a file of it must not keep it mounted.
        subprocess.run([_UMOUNT, "-l", str(folder)], check=True)
