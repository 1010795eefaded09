"""Bad input in the decoders of the door and of the aggregator, in this process."""

import contextlib
import time
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
import zstandard

from aggregator.domain.batch import Batch, LogRecord, decode_batch
from ingest import bodies
from ingest.domain.bots import is_bot
from ingest.domain.decode import BadBody, Framing, TooManyEvents, decode_events
from ingest.domain.incoming import MAX_BODY_BYTES, IncomingEvent
from ingest.domain.judge import Judge
from ingest.domain.knowledge import Knowledge
from ingest.domain.pack import encode_chunks
from ingest.errors import Refusal
from ingest.pixel import event_of as pixel_event
from schemas.events import INDEX_BITS, SCHEMA_NAME, encode_events
from schemas.reasons import EventType, Scope, Unbilled
from tests.faults.fuzz import cases
from tests.faults.fuzz.mutate import Mutator
from tests.unit.aggregator.billing_cases import event_of
from tests.unit.aggregator.test_batch import settle
from tests.unit.ingest.given import CAMPAIGN, NOW, browser, campaign, server

_SLOW_S = 5.0
"""A single case that takes longer, on a machine as busy as it may be, takes too long on any."""

FULL: dict[str, Any] = {
    "eventId": "e-1",
    "campaignId": CAMPAIGN,
    "type": "CONVERSION",
    "occurredAt": "2026-11-18T10:00:00.123Z",
    "sentAt": "2026-11-18T11:00:00+01:00",
    "visitorId": "v-81",
    "customerId": "c-9",
    "clickId": "k",
    "variant": "a",
    "channel": "WEB",
    "placement": "hero",
    "country": "DE",
    "url": "https://shop.example/a?b=c#d",
    "referrer": "https://shop.example",
    "userAgent": "Mozilla/5.0",
    "revenue": {"amount": 49.9, "currency": "EUR"},
    "data": {"sku": ["A1", {"\u00fc": "\u2028"}]},
}
SMALL = {"eventId": "e-2", "campaignId": CAMPAIGN, "type": "IMPRESSION"}
NEIGHBOUR = b'{"eventId":"neighbour","campaignId":"' + CAMPAIGN.encode() + b'","type":"CLICK"}'
EVENTS = [msgspec.json.encode(FULL), msgspec.json.encode(SMALL)]
BODIES = [*EVENTS, b"[" + b",".join([*EVENTS, *EVENTS]) + b"]", b"\n".join([*EVENTS, *EVENTS])]
PIXELS = [
    f"campaignId={CAMPAIGN}&type=CLICK&eventId=e&key=k&url=https%3A%2F%2Fa.example%2F%3Fb%3Dc".encode(),
    f"campaignId={CAMPAIGN}&type=CONVERSION&revenue=49.90&currency=EUR&data=%7B%22a%22%3A1%7D".encode(),
]
LINES = [
    encode_events([event_of(EventType.CLICK, 3, data=msgspec.Raw(b'{"sku":"A1"}'))]).strip(),
    encode_events([event_of(billable=False, reason=Unbilled.BOT)]).strip(),
    encode_events([event_of(EventType.CONVERSION, 5, flat=True, revenue=7)]).strip(),
]

pytestmark = pytest.mark.timeout(0 if cases.CASES else 300)


def test_whatever_the_door_takes_the_aggregator_can_bill_and_no_neighbour_is_lost() -> None:
    """Bodies: decoded, judged and packed as the door does, then settled as the aggregator does."""
    knowledge = Knowledge()
    knowledge.campaigns.put(campaign())
    judge = Judge(knowledge, is_bot)
    dice = cases.dice("the door's decoder")
    mutator = Mutator(dice, BODIES)
    senders = [browser(), server(Scope.COST, Scope.BACKFILL), browser(private=True)]
    for _ in cases.numbers():
        body, framing = _body(mutator, dice.random()), dice.choice(list(Framing))
        began = time.monotonic()
        try:
            decoded = decode_events(body, framing)
        except (BadBody, TooManyEvents):
            continue
        judgement = judge.judge(decoded, dice.choice(senders), now=NOW)
        assert len(judgement.results) == len(decoded)
        for result in judgement.results:
            msgspec.json.encode(result)
        if judgement.stamped:
            _settled(judgement.stamped, body)
        assert time.monotonic() - began < _SLOW_S, body


def _body(mutator: Mutator, chance: float) -> bytes:
    content = mutator.mutated(mutator.pick())
    return b"[" + content + b"]" if chance < 0.2 else content


def _settled(stamped: Sequence[Any], body: bytes) -> None:
    records = [
        LogRecord(offset, NOW, SCHEMA_NAME, lines) for offset, (lines, _) in enumerate(encode_chunks(stamped))
    ]
    batch = decode_batch(0, 0, records)
    assert not batch.dead_letters, (body, batch.dead_letters)
    assert batch.events == list(stamped), body


def test_an_event_of_a_neighbour_is_taken_whatever_stands_beside_it() -> None:
    """Elements of an array and lines, of which one is spoilt within its own borders."""
    dice = cases.dice("neighbours at the door")
    mutator = Mutator(dice, EVENTS)
    wanted = msgspec.json.decode(NEIGHBOUR, type=IncomingEvent)
    for _ in cases.numbers():
        spoilt = mutator.mutated(mutator.pick())
        if b"\n" in spoilt or not spoilt.strip() or not _is_utf8(spoilt):
            continue
        decoded = decode_events(b"\n".join([NEIGHBOUR, spoilt, NEIGHBOUR]), Framing.NDJSON)
        assert decoded[0] == wanted == decoded[-1], spoilt


def _is_utf8(content: bytes) -> bool:
    """Whether a body may hold it: one that is not UTF-8 is refused as a whole, and sent again as a whole."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_a_packed_body_never_unpacks_to_more_than_a_request_may_have() -> None:
    dice = cases.dice("compression")
    plain = [*BODIES, b"\x00" * (8 * MAX_BODY_BYTES), b"ab" * MAX_BODY_BYTES]
    packed = {
        "gzip": [_gzip(body) for body in plain] + [_gzip(EVENTS[0]) * 3],
        "deflate": [zlib.compress(body) for body in plain] + [_bare(body) for body in plain],
        "zstd": [zstandard.compress(body) for body in plain] + [zstandard.compress(EVENTS[0]) * 3],
    }
    mutators = {name: Mutator(dice, corpus) for name, corpus in packed.items()}
    for _ in cases.numbers(share=0.1):
        encoding = dice.choice(list(mutators))
        mutator = mutators[encoding]
        content = mutator.mutated(mutator.pick()) if dice.random() < 0.9 else mutator.pick()
        began = time.monotonic()
        with contextlib.suppress(Refusal):
            assert len(bodies.unpack(content, encoding)) <= MAX_BODY_BYTES
        assert time.monotonic() - began < _SLOW_S, (encoding, content)


def _gzip(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(content) + packer.flush()


def _bare(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(content) + packer.flush()


def test_any_query_of_a_pixel_is_an_event_or_a_refusal() -> None:
    dice = cases.dice("pixels")
    mutator = Mutator(dice, PIXELS)
    knowledge = Knowledge()
    knowledge.campaigns.put(campaign())
    judge = Judge(knowledge, is_bot)
    for _ in cases.numbers():
        query = mutator.mutated(mutator.pick())
        text = query.decode("latin-1") if dice.random() < 0.5 else query.decode(errors="replace")
        judgement = judge.judge([pixel_event(text)], browser(), now=NOW)
        if judgement.stamped:
            _settled(judgement.stamped, query)


def test_any_record_of_the_log_is_settled_and_its_good_lines_are_kept() -> None:
    """Lines that are spoilt within their own borders between good ones, and whole records of rubbish."""
    dice = cases.dice("the aggregator's decoder")
    mutator = Mutator(dice, LINES)
    good = decode_batch(0, 0, [LogRecord(0, 0, SCHEMA_NAME, LINES[0])]).events[0]
    for number in cases.numbers():
        spoilt = mutator.mutated(mutator.pick())
        among = b"\n".join([LINES[0], spoilt, LINES[0]])
        rubbish = mutator.mutated(b"\n".join(LINES))
        records = [LogRecord(number, 0, SCHEMA_NAME, among), LogRecord(number + 1, 0, None, rubbish)]
        began = time.monotonic()
        batch = decode_batch(0, 0, records)
        assert _offsets(batch) == {number, number + 1}
        assert batch.events[0] == good, among
        assert sum(event == good for event in batch.events) >= 2, among
        for record in records:
            _lossless(batch, record)
        settle(batch)
        assert time.monotonic() - began < _SLOW_S, (among, rubbish)


def _offsets(batch: Batch) -> set[int]:
    return {at >> INDEX_BITS for at in batch.positions} | {letter.offset for letter in batch.dead_letters}


def _lossless(batch: Batch, record: LogRecord) -> None:
    """Each line is an event or a dead letter; a record without any is one."""
    lines = len([line for line in record.value.split(b"\n") if line.strip()])
    letters = [letter for letter in batch.dead_letters if letter.offset == record.offset]
    events = sum(at >> INDEX_BITS == record.offset for at in batch.positions)
    assert events + len(letters) == max(lines, 1), record.value
