"""Packing, knowledge, limits, bodies, the pixel and settings."""

import gzip
import zlib
from contextlib import suppress

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ingest.bodies import Body, framing_of, unpack
from ingest.domain.decode import Framing
from ingest.domain.incoming import IncomingEvent, Refused
from ingest.domain.knowledge import Knowledge
from ingest.domain.pack import MAX_RECORD_BYTES, Packer, encode_chunks
from ingest.domain.rate import TokenBucket
from ingest.errors import Refusal, SettingError
from ingest.pixel import event_of
from ingest.settings import load
from schemas.door_problems import OVER_SHARE
from schemas.events import MAX_EVENTS_PER_RECORD, TrackingEvent, decode_events
from schemas.reasons import EventType
from tests.unit.ingest.given import CAMPAIGN, ORGANIZATION, campaign

MIB = 1024 * 1024


def line(url: str = "", event_id: str = "e") -> TrackingEvent:
    return TrackingEvent(event_id, ORGANIZATION, CAMPAIGN, EventType.CLICK, 1, 1, "EUR", 1, url=url)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 500), st.integers(1, 4_000)), max_size=60))
def test_records_keep_all_lines_in_order_and_within_their_limits(additions):
    packer: Packer[int] = Packer()
    sealed = []
    sent: dict[int, bytes] = {}
    for ticket, (partition, events, size) in enumerate(additions):
        lines = bytes([ticket]) * (events * size // 100 + 1)
        given_ticket, full = packer.add(partition, lines, events, ticket)
        assert given_ticket <= ticket
        sealed += [full] if full else []
        sent[partition] = sent.get(partition, b"") + lines
    sealed += packer.drain()
    assert packer.drain() == []
    for record in sealed:
        assert 0 < record.events <= MAX_EVENTS_PER_RECORD
        assert len(record.lines) <= MAX_RECORD_BYTES
    for partition, lines in sent.items():
        assert b"".join(bytes(r.lines) for r in sealed if r.partition == partition) == lines


@pytest.mark.parametrize(("events", "size"), [(1, 10), (500, 10), (501, 10), (1_000, 1_000), (3, 16_000)])
def test_chunks_fit_in_records_and_lose_nothing(events, size):
    chunks = encode_chunks([line("u" * size, f"e{number}") for number in range(events)])
    assert all(count <= MAX_EVENTS_PER_RECORD and len(lines) <= MAX_RECORD_BYTES for lines, count in chunks)
    assert [event.event_id for lines, _ in chunks for event in decode_events(lines)] == [
        f"e{number}" for number in range(events)
    ]


def test_the_highest_version_counts_whatever_comes_last():
    campaigns = Knowledge().campaigns
    assert campaigns.put(campaign(version=2))
    assert not campaigns.put(campaign(version=1))
    assert not campaigns.put(campaign(version=2))
    held = campaigns.get(CAMPAIGN)
    assert held is not None
    assert held.version == 2


def test_a_full_read_forgets_what_it_did_not_see_and_nothing_else():
    campaigns = Knowledge().campaigns
    campaigns.put(campaign(version=2))
    campaigns.put(campaign(campaign_id="gone since"))
    campaigns.begin_full_read()
    campaigns.put(campaign(version=1))
    campaigns.put(campaign(campaign_id="new"))
    assert campaigns.end_full_read() == 1
    assert {state.campaign_id for state in campaigns.values()} == {CAMPAIGN, "new"}
    assert campaigns.end_full_read() == 0


def test_a_token_bucket_takes_its_rate_and_its_burst_and_no_more():
    bucket = TokenBucket(rate=10, burst=20, now=0.0)
    assert bucket.take(20, 0.0) == 0
    assert bucket.take(1, 0.0) == pytest.approx(0.1)
    assert bucket.take(5, 0.5) == 0
    assert bucket.take(1, 0.4) > 0, "a clock that goes back gives no tokens"
    assert bucket.take(100, 10.0) == 0, "a request above the burst passes when the bucket is full"
    assert bucket.take(1, 11.0) == pytest.approx(7.1)
    assert TokenBucket(rate=0, burst=1, now=0.0).take(1, 0.0) == 0


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        (None, bytes),
        ("identity", bytes),
        ("gzip", gzip.compress),
        ("GZIP", lambda body: gzip.compress(body[:3]) + gzip.compress(body[3:])),
        ("deflate", zlib.compress),
        ("deflate", lambda body: zlib.compress(body)[2:-4]),
        ("zstd", zstandard.compress),
        ("zstd", lambda body: zstandard.compress(body[:3]) + zstandard.compress(body[3:])),
    ],
)
def test_packed_bodies_are_unpacked(encoding, pack):
    body = b'{"some":"text"}' * 500
    assert unpack(pack(body), encoding) == body


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", zstandard.compress)]
)
def test_a_bomb_is_refused_and_the_limit_itself_is_not(encoding, pack):
    assert len(unpack(pack(b" " * MIB), encoding)) == MIB
    for size in (MIB + 1, 300 * MIB):
        with pytest.raises(Refusal) as refused:
            unpack(pack(b" " * size), encoding)
        assert refused.value.problem.status == 413


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_what_is_not_packed_or_cut_short_is_refused(encoding):
    whole = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstandard.compress}[encoding](
        b"x" * 9_999
    )
    for body in (b"plain text", whole[:-3], whole + b"rubbish"):
        with pytest.raises(Refusal) as refused:
            assert unpack(body, encoding) is None
        assert refused.value.problem.status == 400


def test_thousands_of_empty_members_are_refused():
    for encoding, member in (("gzip", gzip.compress(b"")), ("zstd", zstandard.compress(b""))):
        with pytest.raises(Refusal):
            unpack(member * 20_000, encoding)


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate", "zstd", "br", ""]))
def test_any_packed_bytes_are_unpacked_or_refused(body, encoding):
    with suppress(Refusal):
        unpack(body, encoding)


class Taken(list[int]):
    """The sizes that a body was counted with, before it was read."""

    def __call__(self, size: int) -> None:
        self.append(size)


def test_a_body_is_not_taken_beyond_the_limit():
    taken = Taken()
    body = Body(None, taken)
    for number in range(16):
        body.add(bytes([number]) * 65_536)
    assert body.received == b"".join(bytes([number]) * 65_536 for number in range(16))
    assert taken == [65_536] * 16
    with pytest.raises(Refusal):
        body.add(b"x")
    with pytest.raises(Refusal):
        Body(str(MIB + 1), Taken())


def test_a_large_body_counts_as_it_comes_and_not_as_it_claims():
    def refuse(size: int) -> None:
        raise Refusal(OVER_SHARE, f"{size} bytes are too many")

    claimed = Body(str(MIB), refuse)
    with pytest.raises(Refusal):
        claimed.add(b"x")
    with pytest.raises(Refusal):
        Body("60000", refuse)
    taken = Taken()
    Body("60000", taken).add(b"x" * 60_000)
    assert taken == [60_000], "once, by its head"


@pytest.mark.parametrize(
    ("content_type", "framing"),
    [
        (None, Framing.TEXT),
        ("text/plain;charset=UTF-8", Framing.TEXT),
        ("Application/JSON", Framing.JSON),
        ('application/x-ndjson; charset="utf-8"', Framing.NDJSON),
    ],
)
def test_content_types_are_recognised(content_type, framing):
    assert framing_of(content_type) is framing


@pytest.mark.parametrize("content_type", ["text/html", "application/json; charset=utf-16", "nonsense", ";"])
def test_other_content_types_are_refused(content_type):
    with pytest.raises(Refusal) as refused:
        framing_of(content_type)
    assert refused.value.problem.status == 415


def test_a_pixels_parameters_are_an_event():
    pixel = event_of(
        f"key=k&campaignId={CAMPAIGN}&type=CONVERSION&revenue=49.90&currency=EUR&data=%7B%22a%22%3A1%7D&_=12"
    )
    assert isinstance(pixel, IncomingEvent)
    assert pixel.revenue is not None
    assert (str(pixel.revenue.amount), pixel.revenue.currency, bytes(pixel.data)) == (
        "49.90",
        "EUR",
        b'{"a":1}',
    )


@pytest.mark.parametrize(
    "query",
    [
        "",
        "campaignId=x&campaignId=y&type=CLICK",
        f"campaignId={CAMPAIGN}&type=CLICK&nonsense=1",
        f"campaignId={CAMPAIGN}&type=CLICK&currency=EUR",
        f"campaignId={CAMPAIGN}&type=CLICK&visitorId=%00",
        f"campaignId={CAMPAIGN}&type=CLICK&visitorId=%ff",
        f"campaignId={CAMPAIGN}&type=CLICK&data=%7B",
        "&".join(f"a{number}=1" for number in range(100)),
    ],
)
def test_a_pixel_with_wrong_parameters_is_refused(query):
    assert isinstance(event_of(query), Refused)


@given(st.text())
def test_any_query_is_an_event_or_refused(query):
    assert isinstance(event_of(query), IncomingEvent | Refused)


SETTINGS = {"FLIGHTLINE_KAFKA": "k:1", "FLIGHTLINE_BIND": "127.0.0.1:8000", "FLIGHTLINE_STATE": "s"}


def test_settings_are_read_from_the_environment():
    settings = load(
        {**SETTINGS, "FLIGHTLINE_TRUSTED_PROXIES": "10.0.0.0/8, ::1", "FLIGHTLINE_BIND": "[::1]:80"}
    )
    assert (settings.host, settings.port, len(settings.trusted_proxies)) == ("::1", 80, 2)
    with pytest.raises(AttributeError):
        settings.port = 1  # type: ignore[misc]  # that is what is tested


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FLIGHTLINE_KAFKA", " "),
        ("FLIGHTLINE_STATE", ""),
        ("FLIGHTLINE_BIND", "8000"),
        ("FLIGHTLINE_BIND", "host:99999"),
        ("FLIGHTLINE_DEADLINE_MS", "soon"),
        ("FLIGHTLINE_LINGER_MS", "-1"),
        ("FLIGHTLINE_SPOOL_MB", "0"),
        ("FLIGHTLINE_GRACE_MS", "a while"),
        ("FLIGHTLINE_MAX_PENDING_MB", "none"),
        ("FLIGHTLINE_TRUSTED_PROXIES", "10.0.0.1/8"),
    ],
)
def test_a_wrong_setting_is_named_in_one_sentence(variable, value):
    with pytest.raises(SettingError, match=f"^{variable} [^\n]+$"):
        load({**SETTINGS, variable: value})


def test_structs_of_the_wire_refuse_unknown_fields():
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"campaignId":"c","type":"CLICK","ip":"10.0.0.1"}', type=IncomingEvent)
