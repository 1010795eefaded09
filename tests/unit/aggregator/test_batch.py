"""From records to batches: what can't be decoded is set apart, its neighbours are kept."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.domain.batch import MOST_DEAD_BYTES, WHOLE_RECORD, Batch, LogRecord, decode_batch
from aggregator.domain.billing import bill, tally
from aggregator.domain.blocks import position
from aggregator.domain.rows import BatchRecord, rows_of
from schemas.dead_letters import DeadLetter
from schemas.events import MAX_EVENTS_PER_RECORD, SCHEMA_NAME, TrackingEvent, encode_events
from schemas.reasons import EventType, Unbilled
from schemas.topics import TRACKING_EVENTS
from tests.unit.aggregator.billing_cases import CAMPAIGNS, account_of, event_of

PROPERTY = settings(max_examples=100, deadline=None)
GOOD = event_of(EventType.CLICK, 3, data=msgspec.Raw(b'{"sku":"A1"}'))


def record_of(value: bytes, offset: int = 0, at: int = 0, schema: str | None = SCHEMA_NAME) -> LogRecord:
    return LogRecord(offset, at, schema, value)


def decode(*records: LogRecord) -> Batch:
    return decode_batch(3, 1, records)


def line(**changes: Any) -> bytes:
    """A good event's line, with fields changed to whatever, as another producer might write it."""
    fields = msgspec.json.decode(encode_events([GOOD])) | changes
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not ...})


def test_events_keep_the_order_and_the_coordinates_of_the_log() -> None:
    batch = decode(
        record_of(encode_events([GOOD, event_of()]), 70, at=5), record_of(encode_events([GOOD]), 71, at=4)
    )
    assert batch.events == [GOOD, event_of(), GOOD]
    assert batch.positions == [position(70, 0), position(70, 1), position(71, 0)]
    assert (batch.partition, batch.incarnation, batch.first_offset, batch.next_offset) == (3, 1, 70, 72)
    assert batch.newest_at == 5
    assert batch.dead_letters == []


def test_a_line_that_is_no_event_costs_its_neighbours_nothing() -> None:
    value = b"\n".join([line(), b'{"nonsense":', line(), b"null", line()])
    batch = decode(record_of(value, 9, at=77))
    assert [p & 1023 for p in batch.positions] == [0, 2, 4]
    assert [(d.offset, d.index, d.value) for d in batch.dead_letters] == [
        (9, 1, b'{"nonsense":'),
        (9, 3, b"null"),
    ]
    first = batch.dead_letters[0]
    assert (first.topic, first.partition, first.incarnation, first.at) == (TRACKING_EVENTS, 3, 1, 77)
    assert first.reason


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"type": "LIKE"}, "type"),
        ({"eventId": ""}, "eventId"),
        ({"eventId": "x" * 513}, "eventId"),
        ({"eventId": ...}, "eventId"),
        ({"receivedAt": -1}, "receivedAt"),
        ({"receivedAt": 10**18}, "receivedAt"),
        ({"occurredAt": "yesterday"}, "occurredAt"),
        ({"cost": -1}, "cost"),
        ({"cost": 1.5}, "cost"),
        ({"cost": 10**19}, "cost"),
        ({"revenue": -1}, "revenue"),
        ({"budgetVersion": -1}, "budgetVersion"),
        ({"budgetVersion": 10**30}, "budgetVersion"),
        ({"reason": "BORED", "billable": False}, "reason"),
        ({"reason": "BOT"}, "billable, with a reason"),
        ({"currency": "EU\x00"}, "currency"),
        ({"currency": "euro"}, "currency"),
        ({"campaignId": "not a uuid"}, "campaignId"),
        ({"campaignId": CAMPAIGNS[0].upper()}, "campaignId"),
        ({"organizationId": CAMPAIGNS[0].replace("-", "")}, "organizationId"),
    ],
)
def test_an_event_that_could_not_be_billed_or_stored_is_a_dead_letter(
    changes: dict[str, Any], told: str
) -> None:
    bad = line(**changes)
    batch = decode(record_of(b"\n".join([line(), bad, line()])))
    assert batch.events == [GOOD, GOOD]
    (letter,) = batch.dead_letters
    assert (letter.index, letter.value) == (1, bad)
    assert told in letter.reason


@pytest.mark.parametrize("data", [b'"\xff"', b'{"a":"\xc3"}'])
def test_data_that_is_not_utf8_is_a_dead_letter(data: bytes) -> None:
    bad = line(data=msgspec.Raw(data))
    batch = decode(record_of(b"\n".join([bad, line()])))
    assert batch.events == [GOOD]
    assert [(d.index, d.value) for d in batch.dead_letters] == [(0, bad)]


def test_a_field_that_this_version_does_not_know_is_passed_over() -> None:
    assert decode(record_of(line(newField=1))).events == [GOOD]


@pytest.mark.parametrize("value", [b"", b"\n", b" \n\n"])
def test_a_record_without_lines_is_a_dead_letter(value: bytes) -> None:
    batch = decode(record_of(value, 4))
    assert [(d.offset, d.index, d.value) for d in batch.dead_letters] == [(4, -1, value)]


def test_a_record_of_another_schema_is_a_dead_letter_as_a_whole() -> None:
    value = encode_events([GOOD])
    batch = decode(record_of(value, 4, schema="flightline.tracking-event.v9"), record_of(value, 5))
    assert batch.events == [GOOD]
    (letter,) = batch.dead_letters
    assert (letter.offset, letter.index, letter.value) == (4, -1, value)
    assert "v9" in letter.reason


def test_a_record_without_a_schema_is_read() -> None:
    assert decode(record_of(encode_events([GOOD]), schema=None)).events == [GOOD]


def test_a_full_record_is_read_and_one_beyond_all_coordinates_is_not() -> None:
    full = decode(record_of(encode_events([GOOD] * MAX_EVENTS_PER_RECORD)))
    assert len(full.events) == MAX_EVENTS_PER_RECORD
    assert len(decode(record_of(encode_events([GOOD] * WHOLE_RECORD))).events) == WHOLE_RECORD
    over = decode(record_of(encode_events([GOOD] * (WHOLE_RECORD + 1))))
    assert over.events == []
    assert [d.index for d in over.dead_letters] == [-1]


@pytest.mark.parametrize("between", [b"", b" ", b"\t"])
@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n", b"\n \n"])
def test_two_objects_on_a_line_are_none_however_many_lines_there_are(between: bytes, end: bytes) -> None:
    batch = decode(record_of(line() + between + line() + end))
    assert batch.events == []
    assert [letter.index for letter in batch.dead_letters] == [0]


def test_blank_lines_have_no_index_whether_all_is_well_or_not() -> None:
    value = b"\n\n" + line() + b"\n \r\n" + line() + b"\n"
    well = decode(record_of(value))
    spoilt = decode(record_of(value + b"nonsense"))
    assert well.positions == spoilt.positions == [0, 1]
    assert [(d.index, d.value) for d in spoilt.dead_letters] == [(2, b"nonsense")]


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("field", ["newField", "data", "eventId"])
def test_an_object_that_is_nested_without_end_is_a_dead_letter(opening: bytes, field: str) -> None:
    """Found by fuzzing: the decoder's RecursionError ended the aggregator."""
    bad = line()[:-1] + b',"' + field.encode() + b'":' + opening * 50_000
    batch = decode(record_of(b"\n".join([line(), bad, line()]), 9))
    assert batch.positions == [position(9, 0), position(9, 2)]
    assert [(d.index, d.value) for d in batch.dead_letters] == [(1, bad[:MOST_DEAD_BYTES])]


@pytest.mark.parametrize("between", [b"", b" ", b"\t", b"\r"])
@pytest.mark.parametrize("second", [{}, {"organizationId": "not a uuid"}])
def test_two_objects_on_a_line_are_one_dead_letter_and_stop_nothing(
    between: bytes, second: dict[str, Any]
) -> None:
    """Found by fuzzing: the second one had no line of its own, and its dead letter could not be made."""
    both = line() + between + line(**second)
    batch = decode(record_of(b"\n".join([line(), both, line()]), 9))
    assert batch.positions == [position(9, 0), position(9, 2)]
    assert [(d.offset, d.index, d.value) for d in batch.dead_letters] == [(9, 1, both)]


def test_an_object_over_two_lines_is_none_and_the_next_dead_letter_is_still_the_right_line() -> None:
    """Found by fuzzing: lines and events were numbered apart from there on."""
    head, tail = line()[:-1], b"}"
    bad = line(organizationId="not a uuid")
    batch = decode(record_of(b"\n".join([head, tail, bad, line()]), 9))
    assert batch.positions == [position(9, 3)]
    assert [(d.index, d.value) for d in batch.dead_letters] == [(0, head), (1, tail), (2, bad)]


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_each_line_of_an_object_over_two_is_a_dead_letter_also_where_all_would_decode(end: bytes) -> None:
    halves = line().replace(b",", b"\n,", 1)
    batch = decode(record_of(line() + b"\n" + halves + b"\n" + line() + end))
    assert [letter.index for letter in batch.dead_letters] == [1, 2]
    assert [p & 1023 for p in batch.positions] == [0, 3]


def test_the_last_record_is_told_from_another_at_its_offset() -> None:
    one, other = decode(record_of(line())), decode(record_of(line(cost=4)))
    assert one.last_record_hash == decode(record_of(line())).last_record_hash
    assert one.last_record_hash != other.last_record_hash


def settle(batch: Batch) -> None:
    """All that the domain does with a batch; raises when any of it can't be done."""
    deltas = tally(batch.events, [])
    accounts = {campaign: account_of(campaign, budget=100) for campaign in deltas}
    outcome = bill(
        batch.events, batch.positions, [], deltas, accounts, {}, partition=3, incarnation=batch.incarnation
    )
    billed = sum(delta.billed for delta in outcome.deltas.values())
    record = BatchRecord(
        partition=3,
        incarnation=1,
        first_offset=batch.first_offset,
        next_offset=batch.next_offset,
        epoch=1,
        event_rows=len(batch.events),
        billed=billed,
        duplicates=[],
        dead_letters=[],
        openings=outcome.openings,
    )
    rows = rows_of(batch, record)
    assert sum(row.billed for row in rows) == billed
    for letter in batch.dead_letters:
        assert msgspec.json.decode(msgspec.json.encode(letter), type=DeadLetter) == letter
    for row in rows:
        msgspec.json.encode(row)


@PROPERTY
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.booleans())
def test_any_bytes_become_events_or_dead_letters(values: list[bytes], named: bool) -> None:
    schema = SCHEMA_NAME if named else None
    batch = decode(*(record_of(value, offset, schema=schema) for offset, value in enumerate(values)))
    assert {p >> 10 for p in batch.positions} | {d.offset for d in batch.dead_letters} == set(
        range(len(values))
    )
    settle(batch)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A record of good lines, of which some bytes are overwritten, removed or put in."""
    value = bytearray(b"\n".join([line(), line(type="IMPRESSION"), line(billable=False, reason="BOT")]))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(value) - 1))
        value[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(value)


@settings(max_examples=300, deadline=None)
@given(damaged())
def test_a_damaged_record_is_settled_as_far_as_it_can_be_read(value: bytes) -> None:
    settle(decode(record_of(value)))


_values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from([*msgspec.json.decode(line())]), _values, max_size=4))
def test_wrong_values_become_dead_letters_or_can_be_settled(changes: dict[str, Any]) -> None:
    batch = decode(record_of(b"\n".join([line(), line(**changes), line()])))
    assert len(batch.events) + len(batch.dead_letters) == 3
    assert batch.events.count(GOOD) >= 2
    settle(batch)


@PROPERTY
@given(st.lists(st.sampled_from([True, False]), min_size=1, max_size=30))
def test_neighbours_of_dead_letters_keep_their_places(good: list[bool]) -> None:
    batch = decode(record_of(b"\n".join(line() if well else b"{}" for well in good), 8))
    assert batch.positions == [position(8, i) for i, well in enumerate(good) if well]
    assert [d.index for d in batch.dead_letters] == [i for i, well in enumerate(good) if not well]


def test_what_the_door_may_stamp_is_no_dead_letter() -> None:
    events: list[TrackingEvent] = [
        event_of(kind, billable=False, reason=reason) for kind in EventType for reason in Unbilled
    ]
    events += [event_of(kind, 5, flat=flat) for kind in EventType for flat in (True, False)]
    events.append(event_of(visitor_id="\x00", placement="ü" * 512, data=msgspec.Raw(b'{"a":"\\u0000"}')))
    assert decode(record_of(encode_events(events))).events == events


@pytest.mark.parametrize(
    "value",
    [
        b"\xff" * 1_048_000,
        line(type="A" * 1_000_000),
        b"{}\n" + line(type="A" * 500_000) + b"\n" + line(type="B" * 500_000),
    ],
)
def test_a_dead_letter_is_small_enough_for_kafka_however_large_the_record(value: bytes) -> None:
    batch = decode(record_of(value), record_of(b"", 1, schema="s" * 1_000_000))
    assert batch.dead_letters
    assert max(len(msgspec.json.encode(letter)) for letter in batch.dead_letters) < 1_000_000
    assert "bytes" in batch.dead_letters[-2].reason
