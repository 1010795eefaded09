"""Spooled events on their way to the log: each to its partition, in the order in which they were spooled."""

from collections.abc import Iterable

import msgspec

from ingest.domain.pack import Packer
from schemas.ids import partition_of


class _Identity(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """All of an event that its partition depends on."""

    event_id: str
    organization_id: str


_decoder = msgspec.json.Decoder(_Identity)


def repacked(pieces: Iterable[bytes], partitions: int) -> dict[int, list[bytes]]:
    """The lines as records for each partition; every line stays as it was stamped, byte for byte.

    The partition is found now, not when an event is spooled: a door that starts while Kafka is away does not
    know their number.
    """
    packer: Packer[None] = Packer()
    records: dict[int, list[bytes]] = {}
    for piece in pieces:
        for line in piece.splitlines(keepends=True):
            _, sealed = packer.add(_partition(line, partitions), line, 1, None)
            if sealed is not None:
                records.setdefault(sealed.partition, []).append(bytes(sealed.lines))
    for record in packer.drain():
        records.setdefault(record.partition, []).append(bytes(record.lines))
    return records


def _partition(line: bytes, partitions: int) -> int:
    """What is no event (it can't be) goes to the log as well: who reads it keeps it as a dead letter."""
    try:
        identity = _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return 0
    return partition_of(identity.organization_id, identity.event_id, partitions)
