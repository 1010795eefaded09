"""Which settings of a topic that is there are changed, and which are left."""

from compose.topics import Found, as_needed, to_change
from schemas.topics import Topic

TOPIC = Topic("tracking-events", 4, {"retention.ms": "-1", "retention.bytes": "-1"})


def test_a_topic_as_it_should_be_is_left_alone() -> None:
    found = Found(1, TOPIC.config | {"min.insync.replicas": "1"}, TOPIC.config)
    assert to_change(TOPIC, found) == {}


def test_what_was_set_for_the_topic_outlives_a_correction_and_defaults_do_not_become_its_own() -> None:
    settings = {"retention.ms": "1", "retention.bytes": "-1", "min.insync.replicas": "2", "segment.ms": "7"}
    own = {"retention.ms": "1", "min.insync.replicas": "2"}
    assert as_needed(TOPIC, Found(3, settings, own)) == TOPIC.config | {"min.insync.replicas": "2"}


def test_of_several_replicas_two_must_have_a_record() -> None:
    found = Found(3, TOPIC.config | {"min.insync.replicas": "1"}, TOPIC.config)
    assert to_change(TOPIC, found) == {"min.insync.replicas": "2"}
    assert as_needed(TOPIC, found) == TOPIC.config | {"min.insync.replicas": "2"}


def test_who_asks_for_more_replicas_in_sync_keeps_them() -> None:
    found = Found(5, TOPIC.config | {"min.insync.replicas": "3"}, TOPIC.config | {"min.insync.replicas": "3"})
    assert to_change(TOPIC, found) == {}
    assert as_needed(TOPIC, found)["min.insync.replicas"] == "3"
