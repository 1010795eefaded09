"""Ends aiokafka's consumers, in whatever state they are."""

import asyncio
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer

log = structlog.get_logger(__name__)

_END_SECONDS = 2.0


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
