"""The topics, their partitions and how long they are kept (ARCHITECTURE.md explains each)."""

import msgspec

from schemas import access_keys, budget_gates, campaign_activity, campaign_state, dead_letters, domain_events

TRACKING_EVENTS = "tracking-events"
CAMPAIGN_WINDOWS_CHANGELOG = "campaign-windows-changelog"
"""The last value of each campaign's live windows: what restores them when their owner changes."""

_DAY_MS = 86_400_000
_COMPACTED = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1", "segment.ms": str(_DAY_MS)}


class Topic(msgspec.Struct, frozen=True):
    """A topic as it is to be created."""

    name: str
    partitions: int
    config: dict[str, str]


def topics(tracking_partitions: int) -> tuple[Topic, ...]:
    """All topics. The partitions of `tracking-events` are fixed for its life (see ids.partition_of)."""
    return (
        # Records go by DeleteRecords, only below what is stored and verified: never by time.
        Topic(
            TRACKING_EVENTS,
            tracking_partitions,
            {"retention.ms": "-1", "retention.bytes": "-1", "message.timestamp.type": "LogAppendTime"},
        ),
        Topic(campaign_state.TOPIC, 4, _COMPACTED),
        Topic(access_keys.TOPIC, 1, _COMPACTED),
        Topic(budget_gates.TOPIC, 4, _COMPACTED),
        # One partition: a campaign's events come from all partitions, and its windows need them in one place.
        Topic(campaign_activity.TOPIC, 1, {"retention.ms": str(_DAY_MS)}),
        # As many partitions as campaign-activity: Faust gives both to the same worker. Small segments: values
        # are written anew every minute, and the newest segment is never compacted but read at every start.
        Topic(CAMPAIGN_WINDOWS_CHANGELOG, 1, {**_COMPACTED, "segment.bytes": str(16 * 1024 * 1024)}),
        Topic(domain_events.TOPIC, 4, {"retention.ms": str(30 * _DAY_MS)}),
        Topic(dead_letters.TOPIC, 1, {"retention.ms": str(30 * _DAY_MS)}),
    )
