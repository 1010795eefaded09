"""Which spool is whose: the doors of a machine share a folder, and each holds the lock of its own file."""

import fcntl
import os
import time
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

FOLDER = "spool"
_MAX_SLOTS = 1_024


class Slot:
    """A spool file of which this process holds the lock. The lock goes with the process, however it ends."""

    def __init__(self, folder: Path, number: int, lock: int) -> None:
        self.number = number
        self.path = folder / f"{number}.sqlite"
        self._lock = lock

    def remove(self) -> None:
        """Removes the file, which must be closed. The journal last: without its file SQLite ignores it."""
        self.path.unlink(missing_ok=True)
        self._journal().unlink(missing_ok=True)

    def put_aside(self) -> Path:
        """Gives a file that cannot be used another name; returns that."""
        aside = self.path.with_name(f"{self.number}.corrupt-{time.time_ns() // 1_000_000}.sqlite")
        if self._journal().exists():
            self._journal().replace(aside.with_name(f"{aside.name}-wal"))
        if self.path.exists():
            self.path.replace(aside)
        return aside

    def release(self) -> None:
        """Gives the lock back. The file of the lock stays: another process may just have opened it."""
        os.close(self._lock)

    def _journal(self) -> Path:
        return self.path.with_name(f"{self.path.name}-wal")


def claim(state: Path) -> Slot:
    """The first free slot, with whatever a door that is gone has left in it. Raises OSError."""
    folder = state / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(_MAX_SLOTS):
        slot = _try(folder, number)
        if slot is not None:
            return slot
    raise OSError(f"{_MAX_SLOTS} doors share {folder}")


def orphan(state: Path) -> Slot | None:
    """A slot that holds a file and no door, if there is one; claimed. Raises OSError."""
    folder = state / FOLDER
    for path in sorted(folder.glob("*.sqlite")):
        if path.stem.isdecimal() and (slot := _try(folder, int(path.stem))) is not None:
            if slot.path.exists():
                return slot
            slot.release()
    return None


def _try(folder: Path, number: int) -> Slot | None:
    lock = os.open(folder / f"{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except BaseException:
        os.close(lock)
        raise
    return Slot(folder, number, lock)
