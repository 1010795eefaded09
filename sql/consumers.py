"""aiokafka's consumers without a group: where they stand, and their end, in whatever state they are."""

import asyncio
from collections.abc import Iterable
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

log = structlog.get_logger(__name__)

_POSITION_SECONDS = 10.0
_END_SECONDS = 2.0
_COORDINATOR_TASKS = ("_heartbeat_task", "_commit_refresh_task", "_coordination_task")


async def positions(
    consumer: "AIOKafkaConsumer[Any, Any]", partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, int]:
    """The next offset of each. TimeoutError where aiokafka would wait for ever: for a fetcher that has ended
    before it knew its first one."""
    async with asyncio.timeout(_POSITION_SECONDS):
        return {part: await consumer.position(part) for part in partitions}


async def end_consumer(consumer: "AIOKafkaConsumer[Any, Any]") -> None:
    """Returns within some seconds; raises nothing but the caller's own cancellation.

    `stop` alone may not return while Kafka is frozen. It also lets out what its fetcher ended with: an error,
    before the connections are closed, or a cancellation, which the caller would take for its own.
    """
    for close in (consumer.stop, consumer._client.close):  # noqa: SLF001  there is no public way to the second
        closing = asyncio.ensure_future(close())
        try:
            await asyncio.wait({closing}, timeout=_END_SECONDS)
        finally:
            closing.cancel()
        if not closing.done() or closing.cancelled():
            log.info("consumer.ended_hard")
        elif (error := closing.exception()) is not None:
            log.info("consumer.ended_hard", error=repr(error))
        else:
            return
        _cancel_tasks(consumer)


def _cancel_tasks(consumer: Any) -> None:
    """What `stop` did not come to: it would fetch, and be a member of its group, for as long as we live."""
    fetcher, coordinator = getattr(consumer, "_fetcher", None), getattr(consumer, "_coordinator", None)
    tasks = [getattr(fetcher, "_fetch_task", None)]
    tasks += [getattr(coordinator, name, None) for name in _COORDINATOR_TASKS]
    for task in tasks:
        if task is not None:
            task.cancel()
