"""From records of the log to a batch of events, with what can't be decoded set apart."""

from collections.abc import Sequence
from hashlib import blake2b
from uuid import UUID

import msgspec

from aggregator.domain.blocks import position
from schemas.dead_letters import DeadLetter
from schemas.events import INDEX_BITS, SCHEMA_NAME, TrackingEvent, decode_event, decode_events
from schemas.money import CURRENCY_DECIMALS
from schemas.topics import TRACKING_EVENTS

WHOLE_RECORD = (1 << INDEX_BITS) - 1
"""The index under which a dead letter that is a whole record stands in a batch."""

MOST_DEAD_BYTES = 256 * 1024
"""Of a dead letter's value. In base64 a record as large as Kafka takes is larger than that, and its partition
would wait for ever; the log still holds all of it at the letter's coordinates."""

_SCHEMAS = frozenset({None, SCHEMA_NAME})
_MAX_LINES = WHOLE_RECORD
_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_MOST_REASON = 500
"""Characters: a decoder's message, or a schema's name, may quote what a client sent."""


class LogRecord(msgspec.Struct, frozen=True, gc=False):
    """A record of `tracking-events`. `at` is its time in the log (epoch ms), `schema` its schema header."""

    offset: int
    at: int
    schema: str | None
    value: bytes


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Records `first_offset` (inclusive) to `next_offset` (exclusive) of a partition, decoded.

    `positions` and `events` run in parallel, in the order of the log. `newest_at` is the newest time in the
    log (epoch ms), `last_record_hash` tells the last record from another one at its offset, `size` is what
    all of them take in the log, in bytes.
    """

    partition: int
    incarnation: int
    first_offset: int
    next_offset: int
    positions: list[int]
    events: list[TrackingEvent]
    dead_letters: list[DeadLetter]
    newest_at: int
    last_record_hash: bytes
    size: int


def decode_batch(partition: int, incarnation: int, records: Sequence[LogRecord]) -> Batch:
    """The batch of `records`, which are not empty and ascend by offset. Never raises on what they hold."""
    positions: list[int] = []
    events: list[TrackingEvent] = []
    dead_letters: list[DeadLetter] = []
    for record in records:
        whole = _decode_whole(record)
        if whole is not None:
            first = position(record.offset, 0)
            positions.extend(range(first, first + len(whole)))
            events += whole
            continue
        for index, event in _decode_record(record):
            if isinstance(event, str):
                dead_letters.append(_dead_letter(partition, incarnation, record, index, event))
            else:
                positions.append(position(record.offset, index))
                events.append(event)
    return Batch(
        partition=partition,
        incarnation=incarnation,
        first_offset=records[0].offset,
        next_offset=records[-1].offset + 1,
        positions=positions,
        events=events,
        dead_letters=dead_letters,
        newest_at=max(record.at for record in records),
        last_record_hash=hash_of(records[-1]),
        size=sum(len(record.value) for record in records),
    )


def hash_of(record: LogRecord) -> bytes:
    """Tells a record from another one at its offset."""
    return blake2b(record.value, digest_size=16).digest()


def _decode_whole(record: LogRecord) -> list[TrackingEvent] | None:
    """All events at once, as the door writes them; None when the lines have to be looked at one by one.

    The decoder also takes several objects on a line, and one over several lines. An index names a line, so
    what is no event could then not be told from its neighbours: such lines are none.
    """
    value = record.value
    if record.schema not in _SCHEMAS:
        return None
    try:
        events = decode_events(value)
        if not value.isascii():
            str(value, "utf-8")  # the decoder looks only at the structure of `data`, not into its strings
    except _UNDECODABLE:
        return None
    # Between two objects there is an end of a line, and nowhere else: so each line is one event. No object
    # has these bytes within it: an end of a line in a text is none in JSON, and between an object's parts
    # stands a comma or a colon.
    between = value.count(b"}\n{")
    if value.count(b"\n") - value.endswith(b"\n") != between:
        return None
    if len(events) != between + 1 or len(events) > _MAX_LINES:
        return None
    known = _known_uuids
    for event in events:
        if (
            event.campaign_id not in known
            or event.organization_id not in known
            or event.currency not in CURRENCY_DECIMALS
            or (event.reason is not None and event.billable)
        ) and _unusable(event):
            return None
    return events


def _decode_record(record: LogRecord) -> Sequence[tuple[int, TrackingEvent | str]]:
    """(index, event) of each line, with a reason in the event's place where it is none, or can't be used."""
    if record.schema not in _SCHEMAS:
        return [(WHOLE_RECORD, f"unknown schema {record.schema!r}")]
    events = [_decode_line(line) for line in _lines(record.value)]
    if len(events) > _MAX_LINES:
        return [(WHOLE_RECORD, f"a record of {len(events)} lines; {_MAX_LINES} are allowed")]
    if not events:
        return [(WHOLE_RECORD, "an empty record")]
    return list(enumerate(events))


def _lines(value: bytes) -> list[bytes]:
    """The lines of a record as they are numbered: blank ones have no index."""
    return [line for line in value.split(b"\n") if line.strip()]


def _decode_line(line: bytes) -> TrackingEvent | str:
    try:
        event = decode_event(line)
    except _UNDECODABLE as error:
        return str(error)
    return _unusable(event) or event


_known_uuids: set[str] = set()
_MAX_KNOWN_UUIDS = 200_000


def _unusable(event: TrackingEvent) -> str | None:
    """Why an event that decodes can't be billed and stored: without this, one such event that came into the
    log past the door would stop its partition for good."""
    if event.billable and event.reason is not None:
        return f"billable, with a reason why not: {event.reason}"
    if event.currency not in CURRENCY_DECIMALS:
        return "currency is not an ISO 4217 code"
    if not _is_utf8(event.data):
        return "data is not UTF-8"
    for name, text in (("campaignId", event.campaign_id), ("organizationId", event.organization_id)):
        if text not in _known_uuids and not _learn_uuid(text):
            return f"{name} is not a UUID in its canonical text"
    return None


def _is_utf8(data: msgspec.Raw) -> bool:
    """The decoder looks at the structure of raw JSON only, not into its strings."""
    try:
        str(data, "utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _learn_uuid(text: str) -> bool:
    try:
        canonical = str(UUID(text)) == text
    except ValueError:
        return False
    if canonical:
        if len(_known_uuids) >= _MAX_KNOWN_UUIDS:
            _known_uuids.clear()
        _known_uuids.add(text)
    return canonical


def _dead_letter(partition: int, incarnation: int, record: LogRecord, index: int, reason: str) -> DeadLetter:
    whole = index == WHOLE_RECORD
    value = record.value if whole else _lines(record.value)[index]
    reason = reason[:_MOST_REASON]
    if len(value) > MOST_DEAD_BYTES:
        reason = f"{reason} (the first {MOST_DEAD_BYTES} of {len(value)} bytes)"
        value = value[:MOST_DEAD_BYTES]
    return DeadLetter(
        topic=TRACKING_EVENTS,
        incarnation=incarnation,
        partition=partition,
        offset=record.offset,
        index=-1 if whole else index,
        reason=reason,
        at=record.at,
        value=value,
    )
