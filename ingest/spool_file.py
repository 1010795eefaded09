"""One file of a spool: promised records in the order in which they came, safe from a crash and a power cut.

SQLite in WAL mode with `synchronous=FULL`: a commit is on the disk when it returns. The file is held
exclusively, which needs no shared memory: on a full disk that would be a SIGBUS instead of an error.
"""

import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from ingest import metrics
from ingest.errors import SpoolCorrupt
from sql.load import sqlite_queries

log = structlog.get_logger(__name__)

_Result = TypeVar("_Result")

_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PRIMARY_CODE = 0xFF


class Record(msgspec.Struct, frozen=True):
    """Events as lines, in the order of their `id`."""

    id: int
    events: int
    lines: bytes


class Totals(msgspec.Struct, frozen=True):
    """What a spool holds. `used_bytes` are the file's; `oldest_at` is epoch ms, 0 when it holds nothing."""

    records: int = 0
    events: int = 0
    used_bytes: int = 0
    oldest_at: int = 0


class SpoolFile:
    """An open file. For one thread; every method may raise sqlite3.Error (what is wrong may pass) or
    SpoolCorrupt (it won't).
    """

    def __init__(self, path: Path, *, examine: bool) -> None:
        """Opens or makes the file; with `examine` it looks through all that it holds (about 1 GB/s)."""
        self._path = path
        self._queries = sqlite_queries("spool")
        self.holds_damaged = False
        """Whether records were put aside in it."""
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            _checked(lambda: self._prepare(examine=examine))
        except BaseException:
            self._connection.close()
            raise

    def append(self, records: Sequence[tuple[int, bytes]]) -> None:
        """Writes records of (events, lines) in one commit; all of them are on the disk when it returns."""
        now = time.time_ns() // 1_000_000
        rows = [
            {"spooled_at": now, "events": events, "check_sum": zlib.crc32(lines), "lines": lines}
            for events, lines in records
        ]
        self._in_transaction(lambda: self._queries.append(self._connection, rows))

    def oldest(self, after: int, max_bytes: int) -> list[Record]:
        """The next records above the id, up to about so many bytes, at least one if there is any."""
        records, damaged = _checked(lambda: self._read(after, max_bytes))
        for record_id in damaged:
            self._put_aside(record_id)
        return records

    def delete_up_to(self, record_id: int) -> None:
        """Forgets the records up to this one: Kafka has them."""
        self._in_transaction(lambda: self._queries.delete_up_to(self._connection, id=record_id))

    def totals(self, after: int) -> Totals:
        """What it holds above the id, counted."""
        records, events = _checked(lambda: self._queries.totals(self._connection, after=after))
        return Totals(records, events, self.used_bytes(), self.oldest_at(after))

    def used_bytes(self) -> int:
        """Of the file, without pages that are free for new records."""
        return _checked(lambda: int(self._queries.used_bytes(self._connection)))

    def oldest_at(self, after: int) -> int:
        """When the first record above the id was written (epoch ms); 0 when there is none."""
        return _checked(lambda: int(self._queries.oldest_time(self._connection, after=after) or 0))

    def try_disk(self) -> None:
        """Commits something that means nothing."""
        number = time.time_ns() // 1_000_000_000 & 0x7FFFFFFF
        self._in_transaction(lambda: self._connection.execute(f"PRAGMA user_version = {number}"))

    def close(self) -> None:
        """Closes it; what it holds stays."""
        with suppress(sqlite3.Error):
            self._connection.close()

    def _prepare(self, *, examine: bool) -> None:
        connection = self._connection
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        self._queries.create_records(connection)
        self._queries.create_damaged(connection)
        if examine and (fault := self._queries.quick_check(connection)) != "ok":
            raise SpoolCorrupt(str(fault))
        self.holds_damaged = bool(self._queries.damaged_records(connection))
        # So that the name of a new file outlives a power cut as well.
        _sync_folder(self._path.parent)

    def _read(self, after: int, max_bytes: int) -> tuple[list[Record], list[int]]:
        records: list[Record] = []
        damaged: list[int] = []
        size = 0
        for record_id, events, check_sum, lines in self._queries.oldest(self._connection, after=after):
            if zlib.crc32(lines) != check_sum:
                damaged.append(record_id)
                continue
            if records and size + len(lines) > max_bytes:
                break
            size += len(lines)
            records.append(Record(record_id, events, lines))
        return records, damaged

    def _put_aside(self, record_id: int) -> None:
        metrics.SPOOL_CORRUPT.inc()
        log.error("spool.record_damaged", file=str(self._path), record=record_id)

        def move() -> None:
            self._queries.put_aside(self._connection, id=record_id)
            self._queries.delete_one(self._connection, id=record_id)

        self._in_transaction(move)
        self.holds_damaged = True

    def _in_transaction(self, write: Callable[[], object]) -> None:
        def transaction() -> None:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                write()
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

        _checked(transaction)


def _checked(act: Callable[[], _Result]) -> _Result:
    """Tells a corrupt file from other errors."""
    try:
        return act()
    except sqlite3.DatabaseError as error:
        if (getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE) in _CORRUPT:
            raise SpoolCorrupt(str(error)) from error
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
