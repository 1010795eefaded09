"""Packing events into records: requests that come at about the same time share one."""

from collections.abc import Sequence
from typing import Generic, TypeVar

from schemas.events import MAX_EVENTS_PER_RECORD, TrackingEvent, encode_events

MAX_RECORD_BYTES = 256 * 1024
LONGEST_LINGERS = 5
"""For so many lingers at most a record waits for those before it."""

Ticket = TypeVar("Ticket")


class OpenRecord(Generic[Ticket]):
    """A record that is being filled; `ticket` is what all who ride in it wait for."""

    __slots__ = ("events", "lines", "partition", "ticket")

    def __init__(self, partition: int, ticket: Ticket) -> None:
        self.partition = partition
        self.ticket = ticket
        self.lines = bytearray()
        self.events = 0

    def has_room(self, size: int, events: int) -> bool:
        """Whether so many bytes and events fit in as well; an empty record takes anything."""
        return not self.events or (
            self.events + events <= MAX_EVENTS_PER_RECORD and len(self.lines) + size <= MAX_RECORD_BYTES
        )


class Packer(Generic[Ticket]):
    """The open record of each partition. A record is sealed when the next events don't fit, or by `drain`."""

    def __init__(self) -> None:
        self._open: dict[int, OpenRecord[Ticket]] = {}

    def add(
        self, partition: int, lines: bytes, events: int, new_ticket: Ticket
    ) -> tuple[Ticket, OpenRecord[Ticket] | None]:
        """Puts `lines` (of so many `events`, within the limits of a record) into the open record.

        Gives the ticket of the record (`new_ticket` when one was opened for it), and the record that had to
        be sealed to make room.
        """
        record = self._open.get(partition)
        sealed = None
        if record is None or not record.has_room(len(lines), events):
            sealed = record
            record = self._open[partition] = OpenRecord(partition, new_ticket)
        record.lines += lines
        record.events += events
        return record.ticket, sealed

    def drain(self) -> list[OpenRecord[Ticket]]:
        """All open records, sealed."""
        records = list(self._open.values())
        self._open.clear()
        return records


def encode_chunks(events: Sequence[TrackingEvent]) -> list[tuple[bytes, int]]:
    """The events as lines, in as few pieces as fit in a record each, with the number of events of a piece."""
    if len(events) <= MAX_EVENTS_PER_RECORD:
        lines = encode_events(events)
        if len(lines) <= MAX_RECORD_BYTES or len(events) == 1:
            return [(lines, len(events))]
    middle = len(events) // 2
    return encode_chunks(events[:middle]) + encode_chunks(events[middle:])
