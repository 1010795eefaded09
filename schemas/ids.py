"""Identifiers, and the rule that says which partition an event belongs to."""

import zlib
from collections.abc import Iterable
from uuid import UUID

import uuid_utils

_UUID7_TIMESTAMP_SHIFT = 80


def new_id() -> str:
    """A new UUIDv7 in its canonical text: sortable by the time of its creation."""
    return str(uuid_utils.uuid7())


def canonical_uuid(text: str) -> str | None:
    """The canonical lower-case text of a UUID, or None when `text` is not one."""
    try:
        return str(UUID(text))
    except ValueError:
        return None


def uuid7_millis(text: str) -> int | None:
    """The creation time in epoch milliseconds that a UUIDv7 carries; None for any other text."""
    try:
        value = UUID(text)
    except ValueError:
        return None
    return value.int >> _UUID7_TIMESTAMP_SHIFT if value.version == 7 else None  # noqa: PLR2004  the 7 of UUIDv7


def partition_of(organization_id: str, event_id: str, partitions: int) -> int:
    """The partition of an event in `tracking-events`.

    Every copy of an event, through whichever door it comes, must land in the same partition, because
    duplicates are found per partition. So this function and the number of partitions never change during
    a topic's life.
    """
    return partitions_of(organization_id, (event_id,), partitions)[0]


def partitions_of(organization_id: str, event_ids: Iterable[str], partitions: int) -> list[int]:
    """`partition_of` for many events of one organization."""
    begun = zlib.crc32(organization_id.encode())
    return [zlib.crc32(event_id.encode(), begun) % partitions for event_id in event_ids]
