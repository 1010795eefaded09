"""The circuit, the shares of the load, and spooled events on their way to their partitions."""

from hypothesis import given
from hypothesis import strategies as st

from ingest.domain.circuit import Circuit, State
from ingest.domain.load import Load, Room
from ingest.domain.pack import MAX_RECORD_BYTES
from ingest.domain.rate import TokenBucket
from ingest.domain.repack import repacked
from schemas.events import MAX_EVENTS_PER_RECORD, TrackingEvent, decode_events, encode_events
from schemas.ids import partition_of
from schemas.reasons import EventType
from tests.unit.ingest.given import CAMPAIGN, ORGANIZATION


def circuit() -> Circuit:
    return Circuit(first_pause=0.1, longest_pause=2.0)


def test_before_the_first_connection_nothing_is_sent():
    one = circuit()
    assert (one.state, one.admits(), one.pause) == (State.OPEN, False, 0.0)
    one.connected()
    assert (one.state, one.admits()) == (State.CLOSED, True)


def test_after_one_failure_everything_goes_past_kafka_at_once():
    one = circuit()
    one.connected()
    assert all(one.admits() for _ in range(100))
    one.failed()
    assert not any(one.admits() for _ in range(100))


def test_after_a_failure_one_record_tries_and_decides_for_all():
    one = circuit()
    one.connected()
    one.failed()
    one.connected()
    assert one.state is State.HALF_OPEN
    assert [one.admits() for _ in range(3)] == [True, False, False]
    one.succeeded()
    assert [one.admits() for _ in range(3)] == [True, True, True]
    assert one.pause == 0


def test_a_record_that_tried_in_vain_opens_the_circuit_again():
    one = circuit()
    one.failed()
    one.connected()
    assert one.admits()
    one.failed()
    assert not one.admits()
    one.connected()
    assert one.admits(), "the next connection is tried again"


def test_pauses_grow_to_a_bound_and_only_a_success_ends_them():
    one = circuit()
    pauses = []
    for _ in range(60):
        one.failed()
        one.connected()
        pauses.append(one.pause)
    assert pauses[:6] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0]
    assert set(pauses[6:]) == {2.0}
    one.succeeded()
    assert one.pause == 0


def test_one_organization_alone_has_half_of_the_load():
    load = Load(1_000)
    assert load.take("a", 400) is Room.YES
    assert load.take("a", 100) is Room.YES
    assert load.take("a", 1) is Room.NOT_FOR_THIS_ORGANIZATION
    assert load.take("b", 300) is Room.YES


def test_the_more_organizations_the_smaller_the_shares():
    load = Load(1_200)
    for organization in "abc":
        assert load.take(organization, 200) is Room.YES
    assert load.take("a", 100) is Room.YES
    assert load.take("a", 1) is Room.NOT_FOR_THIS_ORGANIZATION
    assert load.take("d", 500) is Room.YES
    assert load.take("e", 1) is Room.NOT_FOR_ANYBODY


def test_what_is_given_back_can_be_taken_again():
    load = Load(1_000)
    load.take("a", 500)
    load.give_back("a", 500)
    assert load.total == 0
    assert load.take("a", 500) is Room.YES


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 600), st.booleans()), max_size=80))
def test_the_load_is_never_above_its_bound_and_no_one_of_several_takes_all(steps):
    load = Load(1_000)
    held: dict[str, list[int]] = {}
    for organization, size, give_back in steps:
        sizes = held.setdefault(organization, [])
        if give_back and sizes:
            load.give_back(organization, sizes.pop())
        elif load.take(organization, size) is Room.YES:
            sizes.append(size)
            assert len(sizes) == 1 or sum(sizes) <= 500
        assert load.total == sum(map(sum, held.values())) <= 1_000


def test_asking_a_bucket_takes_nothing():
    bucket = TokenBucket(rate=1, burst=2, now=0.0)
    assert [bucket.wait(1, 0.0) for _ in range(10)] == [0.0] * 10
    assert bucket.take(2, 0.0) == 0
    assert bucket.wait(1, 0.0) == 1.0


def event(event_id: str, url: str = "") -> TrackingEvent:
    return TrackingEvent(event_id, ORGANIZATION, CAMPAIGN, EventType.CLICK, 1, 1, "EUR", 1, url=url)


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=60), st.integers(1, 7))
def test_spooled_events_go_to_their_partitions_in_order_and_as_they_were_stamped(ids, partitions):
    pieces = [
        encode_events([event(event_id) for event_id in ids[start : start + 7]])
        for start in range(0, len(ids), 7)
    ]
    records = repacked(pieces, partitions)
    for partition, lines in records.items():
        expected = [one for one in ids if partition_of(ORGANIZATION, one, partitions) == partition]
        assert b"".join(lines) == encode_events([event(one) for one in expected])
    assert sum(len(decode_events(lines)) for group in records.values() for lines in group) == len(ids)


def test_repacked_records_keep_the_limits_of_a_record():
    pieces = [encode_events([event(f"{n}-{m}", "u" * 1_000) for m in range(200)]) for n in range(10)]
    for lines in repacked(pieces, 1)[0]:
        assert len(lines) <= MAX_RECORD_BYTES
        assert len(decode_events(lines)) <= MAX_EVENTS_PER_RECORD


def test_what_is_no_event_goes_to_the_log_as_well():
    assert repacked([b"rubbish\n"], 4) == {0: [b"rubbish\n"]}
