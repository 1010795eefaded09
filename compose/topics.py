"""Creates the topics, and says where existing ones differ from what the code needs."""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from compose.errors import ComposeError
from schemas.topics import TRACKING_EVENTS, Topic, topics

EMBEDDED_PARTITIONS = 4
"""Of `tracking-events` where nothing else is asked for; fixed for the life of the topic."""

_REPLICAS = 3
"""On fewer brokers each has all topics."""
_IN_SYNC = "min.insync.replicas"
_IN_SYNC_REPLICAS = "2"
_SET_AT_TOPIC = 1
"""`DYNAMIC_TOPIC_CONFIG` among the sources of a setting (DescribeConfigs, from its version 1 on)."""


class Found(msgspec.Struct, frozen=True):
    """A topic as the broker has it."""

    replicas: int
    """Of the partition that has the fewest."""
    settings: Mapping[str, str]
    """What counts, wherever it was set."""
    own: Mapping[str, str]
    """Of these, what was set for this topic itself: not the broker's defaults."""


def to_change(topic: Topic, found: Found) -> dict[str, str]:
    """The settings that are not as the code needs them, with the values it needs.

    Of a topic with several replicas two must have a record before it is acknowledged, or a promise is lost
    with one broker; who asks for more than two gets it. With one replica the number would only do harm.
    """
    needed = {key: value for key, value in topic.config.items() if found.settings.get(key) != value}
    if found.replicas > 1 and int(found.settings.get(_IN_SYNC, "1")) < int(_IN_SYNC_REPLICAS):
        needed[_IN_SYNC] = _IN_SYNC_REPLICAS
    return needed


def as_needed(topic: Topic, found: Found) -> dict[str, str]:
    """All settings that the topic is to have of its own: what it has, and in its place what must change."""
    return {**found.own, **topic.config, **to_change(topic, found)}


async def ensure_topics(bootstrap: str, partitions: int = EMBEDDED_PARTITIONS) -> list[str]:
    """Creates what is missing and corrects the settings of what is there; returns the names created.

    `partitions` counts only where `tracking-events` is created. Raises ComposeError when another topic has
    another number of them than the code needs, or the broker refuses.
    """
    wanted = topics(partitions)
    admin = await _connect(bootstrap)
    try:
        existing = set(await admin.list_topics())
        missing = [topic for topic in wanted if topic.name not in existing]
        await _create(admin, missing, len((await admin.describe_cluster())["brokers"]))
        present = [topic for topic in wanted if topic.name in existing]
        described = await _described(admin, present)
        _require_partitions(present, described)
        found = await _found(admin, described)
        await _alter(
            admin,
            {
                topic.name: as_needed(topic, found[topic.name])
                for topic in present
                if to_change(topic, found[topic.name])
            },
        )
        return [topic.name for topic in missing]
    finally:
        await admin.close()


async def differences(bootstrap: str, partitions: int | None = None) -> list[str]:
    """What is not as the code needs it, a sentence each; with partitions None any number will do."""
    wanted = topics(partitions or EMBEDDED_PARTITIONS)
    admin = await _connect(bootstrap)
    try:
        existing = set(await admin.list_topics())
        told = [f"topic {topic.name} is missing" for topic in wanted if topic.name not in existing]
        present = [topic for topic in wanted if topic.name in existing]
        found = await _found(admin, await _described(admin, present))
        changes = {topic.name: to_change(topic, found[topic.name]) for topic in present}
        return told + [
            f"topic {name} has another {', '.join(keys)}" for name, keys in changes.items() if keys
        ]
    finally:
        await admin.close()


async def _connect(bootstrap: str) -> AIOKafkaAdminClient:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
    except KafkaError as error:
        await admin.close()
        raise ComposeError(f"Kafka can't be reached at {bootstrap}: {error}") from error
    return admin


async def _create(admin: AIOKafkaAdminClient, missing: list[Topic], brokers: int) -> None:
    if not missing:
        return
    replicas = min(_REPLICAS, brokers)
    in_sync = {_IN_SYNC: _IN_SYNC_REPLICAS} if replicas > 1 else {}
    answer = await admin.create_topics(
        [
            NewTopic(topic.name, topic.partitions, replicas, topic_configs=topic.config | in_sync)
            for topic in missing
        ]
    )
    for name, code, *rest in answer.topic_errors:
        if code not in {0, TopicAlreadyExistsError.errno}:
            raise ComposeError(f"topic {name} could not be created: {for_code(code).__name__} {rest}")


async def _described(admin: AIOKafkaAdminClient, present: list[Topic]) -> dict[str, list[dict[str, Any]]]:
    """By topic its partitions, as the broker tells them."""
    described = await admin.describe_topics([topic.name for topic in present]) if present else []
    return {topic["topic"]: topic["partitions"] for topic in described}


def _require_partitions(present: list[Topic], described: Mapping[str, list[dict[str, Any]]]) -> None:
    for topic in present:
        if topic.name == TRACKING_EVENTS:
            continue  # whatever it was created with: doors and aggregators ask the broker
        partitions = len(described[topic.name])
        if partitions != topic.partitions:
            raise ComposeError(
                f"topic {topic.name} has {partitions} partitions, not {topic.partitions}: "
                "their number is fixed for the topic's life."
            )


async def _found(
    admin: AIOKafkaAdminClient, described: Mapping[str, list[dict[str, Any]]]
) -> dict[str, Found]:
    if not described:
        return {}
    answers = await admin.describe_configs(
        [ConfigResource(ConfigResourceType.TOPIC, name) for name in described]
    )
    return {
        name: Found(
            min((len(partition["replicas"]) for partition in described[name]), default=1),
            {entry[0]: entry[1] for entry in entries},
            {entry[0]: entry[1] for entry in entries if entry[3] == _SET_AT_TOPIC},
        )
        for answer in answers
        for (_, _, _, name, entries) in answer.resources
    }


async def _alter(admin: AIOKafkaAdminClient, settings: Mapping[str, Mapping[str, str]]) -> None:
    """By topic, all its settings: whatever is not named goes back to the broker's default."""
    if not settings:
        return
    resources = [
        ConfigResource(ConfigResourceType.TOPIC, name, configs=dict(own)) for name, own in settings.items()
    ]
    for answer in await asyncio.wait_for(admin.alter_configs(resources), 30):
        for code, message, _, name in answer.resources:
            if code:
                raise ComposeError(
                    f"topic {name} could not be corrected: {for_code(code).__name__} {message}"
                )
