"""Creates the topics, and says where existing ones differ from what the code needs."""

import asyncio

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from compose.errors import ComposeError
from schemas.topics import TRACKING_EVENTS, Topic, topics

EMBEDDED_PARTITIONS = 4
"""Of `tracking-events` where nothing else is asked for; fixed for the life of the topic."""

_REPLICAS = 3
"""With as many brokers a write waits for two of three replicas; on fewer brokers each has all topics."""


async def ensure_topics(bootstrap: str, partitions: int = EMBEDDED_PARTITIONS) -> list[str]:
    """Creates what is missing and sets the configuration of what is there; returns the names created.

    `partitions` counts only where `tracking-events` is created. Raises ComposeError when another topic has
    another number of them than the code needs.
    """
    wanted = topics(partitions)
    admin = await _connect(bootstrap)
    try:
        existing = set(await admin.list_topics())
        missing = [topic for topic in wanted if topic.name not in existing]
        await _create(admin, missing, len((await admin.describe_cluster())["brokers"]))
        present = [topic for topic in wanted if topic.name in existing]
        await _require_partitions(admin, present)
        if present and (differing := await _differing(admin, present)):
            await _alter(admin, [topic for topic in present if topic.name in differing])
        return [topic.name for topic in missing]
    finally:
        await admin.close()


async def differences(bootstrap: str, partitions: int | None = None) -> list[str]:
    """What is not as the code needs it, a sentence each; with partitions None any number will do."""
    wanted = topics(partitions or EMBEDDED_PARTITIONS)
    admin = await _connect(bootstrap)
    try:
        existing = set(await admin.list_topics())
        found = [f"topic {topic.name} is missing" for topic in wanted if topic.name not in existing]
        present = [topic for topic in wanted if topic.name in existing]
        for name, keys in (await _differing(admin, present)).items():
            found.append(f"topic {name} has another {', '.join(keys)}")
        return found
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
    in_sync = {"min.insync.replicas": "2"} if replicas == _REPLICAS else {}
    answer = await admin.create_topics(
        [
            NewTopic(topic.name, topic.partitions, replicas, topic_configs=topic.config | in_sync)
            for topic in missing
        ]
    )
    for name, code, *rest in answer.topic_errors:
        if code not in {0, TopicAlreadyExistsError.errno}:
            raise ComposeError(f"topic {name} could not be created: {for_code(code).__name__} {rest}")


async def _require_partitions(admin: AIOKafkaAdminClient, present: list[Topic]) -> None:
    described = await admin.describe_topics([topic.name for topic in present]) if present else []
    counts = {topic["topic"]: len(topic["partitions"]) for topic in described}
    for topic in present:
        if topic.name == TRACKING_EVENTS:
            continue  # whatever it was created with: doors and aggregators ask the broker
        if counts.get(topic.name, topic.partitions) != topic.partitions:
            raise ComposeError(
                f"topic {topic.name} has {counts[topic.name]} partitions, not {topic.partitions}: "
                "their number is fixed for the topic's life."
            )


async def _differing(admin: AIOKafkaAdminClient, present: list[Topic]) -> dict[str, list[str]]:
    """By topic, the names of the settings that differ."""
    if not present:
        return {}
    answers = await admin.describe_configs(
        [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in present]
    )
    actual = {
        name: {entry[0]: entry[1] for entry in entries}
        for answer in answers
        for (_, _, _, name, entries) in answer.resources
    }
    found = {
        topic.name: [key for key, value in topic.config.items() if actual[topic.name].get(key) != value]
        for topic in present
    }
    return {name: keys for name, keys in found.items() if keys}


async def _alter(admin: AIOKafkaAdminClient, differing: list[Topic]) -> None:
    resources = [
        ConfigResource(ConfigResourceType.TOPIC, topic.name, configs=topic.config) for topic in differing
    ]
    await asyncio.wait_for(admin.alter_configs(resources), 30)
