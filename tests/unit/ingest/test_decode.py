"""From bytes to events: what is wrong with one costs its neighbours nothing."""

import json
from contextlib import suppress

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.domain.decode import BadBody, Framing, TooManyEvents, data_depth, decode_events
from ingest.domain.incoming import IncomingEvent, Refused
from schemas.reasons import EventType, Rejected
from tests.unit.ingest.given import CAMPAIGN

GOOD = b'{"campaignId":"%b","type":"CLICK"}' % CAMPAIGN.encode()


def with_field(name: str, value: bytes) -> bytes:
    return b'{"campaignId":"%b","type":"CLICK","eventId":"e1","%b":%b}' % (
        CAMPAIGN.encode(),
        name.encode(),
        value,
    )


def reasons(body: bytes, framing: Framing = Framing.JSON) -> list[Rejected | None]:
    return [event.reason if isinstance(event, Refused) else None for event in decode_events(body, framing)]


@pytest.mark.parametrize("framing", [Framing.JSON, Framing.TEXT])
def test_one_event_and_an_array_are_recognised(framing):
    assert reasons(GOOD, framing) == [None]
    assert reasons(b" [%b, %b ]\n" % (GOOD, GOOD), framing) == [None, None]
    assert reasons(b"[]", framing) == []
    assert reasons(b"{\n" + GOOD[1:], framing) == [None]


@pytest.mark.parametrize("framing", [Framing.NDJSON, Framing.TEXT])
def test_lines_are_recognised_with_any_line_end_and_blank_lines(framing):
    assert reasons(GOOD + b"\r\n\n" + GOOD + b"\n", framing) == [None, None]


MALFORMED = [
    b"5",
    b"null",
    b"{}",
    b'{"campaignId":"x"}',
    b'{"campaignId":"x","type":"LOOK"}',
    b'{"campaignId":7,"type":"CLICK"}',
    with_field("unknown", b"1"),
    with_field("occurredAt", b'"yesterday"'),
    with_field("occurredAt", b'"2026-11-23T10:00:00"'),
    with_field("channel", b'"TV"'),
    with_field("country", b'"DEU"'),
    with_field("revenue", b"5"),
    with_field("revenue", b'{"amount":true}'),
    with_field("revenue", b'{"amount":1,"tax":2}'),
    with_field("visitorId", b'"a\\u0000b"'),
    with_field("data", b'{"a":"\\u0000"}'),
    with_field("visitorId", b'"\\ud800"'),
    with_field("visitorId", b'"\\ud800 and more text"'),
    with_field("data", b'{"a":"\\udc00 and more text"}'),
    with_field("data", b'{"a":"\\ud83d\\u0041 and more text"}'),
    with_field("data", b'{"a":' * 1_500 + b"1" + b"}" * 1_500),
    with_field("data", b'{"a":01}'),
    with_field("data", b'{"a":NaN}'),
]
SHALLOW = [bad for bad in MALFORMED if len(bad) < 5_000]
"""hypothesis raises the limit of recursion, so that the deep one is decoded; `check` refuses it then."""
TOO_LARGE = [
    with_field("visitorId", b'"' + b"v" * 513 + b'"'),
    with_field("url", b'"' + b"u" * 2_049 + b'"'),
    with_field("data", b'{"a":"' + b"d" * 16_400 + b'"}'),
]


@pytest.mark.parametrize("bad", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_element_is_refused_and_its_neighbours_are_not(bad):
    assert reasons(b"[%b,%b,%b]" % (GOOD, bad, GOOD)) == [None, Rejected.MALFORMED, None]
    assert reasons(b"%b\n%b\n%b" % (GOOD, bad, GOOD), Framing.NDJSON) == [None, Rejected.MALFORMED, None]


@pytest.mark.parametrize("bad", TOO_LARGE, ids=range(len(TOO_LARGE)))
def test_an_element_that_is_too_large_is_refused_and_its_neighbours_are_not(bad):
    assert reasons(b"[%b,%b,%b]" % (GOOD, bad, GOOD)) == [None, Rejected.TOO_LARGE, None]
    assert reasons(bad) == [Rejected.TOO_LARGE]


def test_what_only_looks_like_nul_or_a_surrogate_is_kept():
    kept = with_field("visitorId", b'"\\\\u0000 \\\\ud800 \\ud83d\\ude00"')
    (decoded,) = decode_events(kept, Framing.JSON)
    assert isinstance(decoded, IncomingEvent)
    assert decoded.visitor_id == "\\u0000 \\ud800 😀"


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "part", [b'\\"', b'"', b"[", b"[]", b"[],", b",", b'"",', b"{\n"], ids=lambda part: part.decode()
)
@pytest.mark.parametrize("framing", Framing)
def test_a_body_that_is_made_to_be_slow_is_not(part, framing):
    opening = b'["' if part == b'\\"' else b"["
    body = opening + part * (1_000_000 // len(part))
    with suppress(BadBody, TooManyEvents):
        decode_events(body, framing)


def test_a_refused_event_keeps_its_id_and_a_bounded_sample():
    (refused,) = decode_events(with_field("unknown", b'"' + b"x" * 5_000 + b'"'), Framing.JSON)
    assert isinstance(refused, Refused)
    assert (refused.event_id, len(refused.sample)) == ("e1", 1_024)


def test_what_is_kept_of_a_refused_event_is_small_whatever_its_size():
    for body in (
        b'{"eventId":"' + b"i" * 900_000 + b'"}',
        with_field("type", b'"' + b"T" * 16_000 + b'"'),
        with_field("n" * 16_000, b"1"),
    ):
        (refused,) = decode_events(body, Framing.JSON)
        assert isinstance(refused, Refused)
        assert len(refused.event_id or "") + len(refused.detail) + len(refused.sample) < 2_000


def test_a_syntax_error_inside_an_element_is_its_own():
    assert reasons(b'[%b,{"type": CLICK, "x": [1,2]},%b]' % (GOOD, GOOD)) == [None, Rejected.MALFORMED, None]
    assert reasons(GOOD + b'\n{"campaignId":\n' + GOOD, Framing.NDJSON) == [None, Rejected.MALFORMED, None]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \r\n\t",
        b"hello",
        b"42",
        b'"text"',
        b"null",
        GOOD[:-1],
        GOOD + b"x",
        b"[" + GOOD,
        b"[%b,]" % GOOD,
        b"[,%b]" % GOOD,
        b"[%b] [%b]" % (GOOD, GOOD),
        b"[" * 5_000,
        b"\xff" + GOOD,
        GOOD.replace(b"CLICK", b"\xed\xa0\x80"),
        b"\xef\xbb\xbf" + GOOD,
    ],
)
def test_a_body_that_is_broken_as_a_whole_is_a_bad_body(body):
    with pytest.raises(BadBody):
        decode_events(body, Framing.JSON)


@pytest.mark.parametrize("framing", [Framing.JSON, Framing.NDJSON])
def test_a_thousand_events_pass_and_one_more_does_not(framing):
    def body(count: int) -> bytes:
        if framing is Framing.JSON:
            return b"[" + b",".join([GOOD] * count) + b"]"
        return b"\n".join([GOOD] * count)

    assert len(decode_events(body(1_000), framing)) == 1_000
    with pytest.raises(TooManyEvents):
        decode_events(body(1_001), framing)


def test_depth_counts_brackets_outside_of_texts():
    assert data_depth(b'{"a":[{"b":"[[[[{{{{ \\" ["}],"c":{}}') == 3


@given(st.binary(max_size=200), st.sampled_from(Framing))
@example(b"[}]", Framing.JSON)
@example(b"[{]", Framing.TEXT)
def test_any_bytes_are_decoded_or_refused(body, framing):
    with suppress(BadBody, TooManyEvents):
        decode_events(body, framing)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
FIELDS = ["eventId", "occurredAt", "sentAt", "visitorId", "revenue", "cost", "data", "country", "nonsense"]


@given(
    st.lists(
        st.one_of(
            JSON_VALUES,
            st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES).map(
                lambda fields: {"campaignId": CAMPAIGN, "type": "CLICK", **fields}
            ),
            st.just(None).map(lambda _: {"campaignId": CAMPAIGN, "type": "CLICK"}),
        ),
        max_size=6,
    )
)
def test_an_array_gives_one_answer_for_each_element_and_loses_no_good_one(elements):
    body = json.dumps(elements).encode()
    decoded = decode_events(body, Framing.JSON)
    assert len(decoded) == len(elements)
    for element, event in zip(elements, decoded, strict=True):
        if element == {"campaignId": CAMPAIGN, "type": "CLICK"}:
            assert isinstance(event, IncomingEvent)
            assert event.type is EventType.CLICK


@given(st.lists(st.sampled_from([GOOD, *SHALLOW, *TOO_LARGE[:2]]), min_size=1, max_size=8))
def test_mixed_lines_and_arrays_agree_on_each_element(elements):
    array = reasons(b"[" + b",".join(elements) + b"]")
    lines = reasons(b"\n".join(elements), Framing.NDJSON)
    assert array == lines
    assert [reason is None for reason in array] == [element == GOOD for element in elements]


def test_msgspec_names_an_exceeded_length_as_the_decoder_expects():
    with pytest.raises(msgspec.ValidationError, match="of length <="):
        msgspec.json.decode(TOO_LARGE[0], type=IncomingEvent)
