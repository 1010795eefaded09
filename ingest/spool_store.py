"""A spool's slot and file, opened when first needed and again after each fault."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
import structlog

from ingest import metrics
from ingest.errors import SpoolCorrupt
from ingest.spool_file import Record, SpoolFile, Totals
from ingest.spool_slots import Slot

log = structlog.get_logger(__name__)

_Result = TypeVar("_Result")

_SHRINK_BYTES = 8 * 1024 * 1024
"""A file never shrinks by itself: an empty one that has grown beyond this is made anew."""


class SpoolStore:
    """For one thread. Its methods raise OSError or sqlite3.Error when the disk refuses.

    A file that is corrupt is put aside and a new one begun: the door goes on, and what can be mended is kept.
    """

    def __init__(self, claim: Callable[[], Slot]) -> None:
        self._claim = claim
        self._slot: Slot | None = None
        self._file: SpoolFile | None = None
        self._examined = False
        self._holds_damaged = False
        self._generation = 0
        """Of the file: another one counts its ids anew."""
        self._read_generation = 0
        self._sent_to = 0
        """Kafka has all up to this id. The file may not know it yet: a full disk refuses deletions, too."""
        self.totals = Totals()

    def open(self) -> None:
        """Opens the file if it is not, and tries whether the disk takes a commit."""
        self._with_file(lambda file: file.try_disk())

    def write(self, records: Sequence[tuple[int, bytes]]) -> None:
        """Appends records of (events, lines); they are on the disk when it returns."""
        self._with_file(lambda file: file.append(records))
        held = self.totals
        events = held.events + sum(count for count, _ in records)
        self.totals = msgspec.structs.replace(held, records=held.records + len(records), events=events)
        self._measure()

    def oldest(self, max_bytes: int) -> list[Record]:
        """The oldest records that Kafka does not have."""
        records = self._with_file(lambda file: file.oldest(self._sent_to, max_bytes))
        self._read_generation = self._generation
        if not records and self.totals.records:
            self.totals = self._opened().totals(self._sent_to)
        return records

    def forget(self, sent: Sequence[Record]) -> None:
        """Kafka has these, which `oldest` gave last. Without a deletion they are not sent again all the same,
        unless the door is killed. Those of a file that was put aside meanwhile are forgotten already.
        """
        if self._read_generation != self._generation:
            return
        held = self.totals
        self._sent_to = sent[-1].id
        events = held.events - sum(record.events for record in sent)
        self.totals = msgspec.structs.replace(held, records=held.records - len(sent), events=events)
        if self.totals.records <= 0 and held.used_bytes > _SHRINK_BYTES:
            self._begin_anew()
            return
        try:
            self._with_file(lambda file: file.delete_up_to(self._sent_to))
        except (OSError, sqlite3.Error):
            if self.totals.records > 0:
                raise
            self._begin_anew()  # which takes no room
        else:
            self._measure()

    def close(self) -> None:
        """Closes the file and gives the slot back; what it holds is the next owner's."""
        self._close_file()
        if self._slot is not None:
            self._slot.release()
            self._slot = None

    def remove(self) -> None:
        """Removes the file, which must be empty, and gives the slot back."""
        if self._slot is not None:
            self._begin_anew()
        self.close()

    def _with_file(self, act: Callable[[SpoolFile], _Result]) -> _Result:
        try:
            return act(self._opened())
        except SpoolCorrupt as error:
            self._put_aside(error)
            return act(self._opened())
        except (OSError, sqlite3.Error):
            self._close_file()
            raise

    def _opened(self) -> SpoolFile:
        if self._slot is None:
            self._slot = self._claim()
        if self._file is None:
            self._file = SpoolFile(self._slot.path, examine=not self._examined)
            self._examined = True
            self.totals = self._file.totals(self._sent_to)
        return self._file

    def _measure(self) -> None:
        file = self._opened()
        self.totals = msgspec.structs.replace(
            self.totals, used_bytes=file.used_bytes(), oldest_at=file.oldest_at(self._sent_to)
        )

    def _put_aside(self, error: SpoolCorrupt) -> None:
        self._close_file()
        if self._slot is None:
            raise error
        aside = self._slot.put_aside()
        self._forget_file()
        metrics.SPOOL_CORRUPT.inc()
        log.error("spool.corrupt", error=str(error), kept_as=str(aside))

    def _begin_anew(self) -> None:
        if self._slot is None:
            return
        self._close_file()
        if self._holds_damaged:
            log.error("spool.damaged_records_kept", kept_as=str(self._slot.put_aside()))
        else:
            self._slot.remove()
        self._forget_file()

    def _forget_file(self) -> None:
        self._generation += 1
        self._holds_damaged = False
        self._sent_to = 0
        self.totals = Totals()

    def _close_file(self) -> None:
        if self._file is not None:
            self._holds_damaged = self._file.holds_damaged
            self._file.close()
            self._file = None
