"""Deletes the records of `tracking-events` that are old and stored for certain: Kafka itself deletes none."""

import asyncio
from collections.abc import Callable

import structlog
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import KafkaError

from aggregator import metrics
from aggregator.block_ledger import BlockLedger
from aggregator.errors import LogUnavailable
from aggregator.log_reader import LogReader
from aggregator.postgres import RETRYABLE
from schemas.topics import TRACKING_EVENTS

log = structlog.get_logger(__name__)


class LogRetention:
    """Keeps of each partition what is not verified as stored, with all after it, and the last `keep_seconds`.

    Who asks need not own the partition any more: what may go is read from the ledger, and stays true.
    """

    def __init__(
        self,
        kafka: str,
        blocks: BlockLedger,
        log_reader: LogReader,
        *,
        keep_seconds: float,
        every_seconds: float,
        clock_ms: Callable[[], int],
    ) -> None:
        self._kafka = kafka
        self._blocks = blocks
        self._log_reader = log_reader
        self._keep_ms = round(keep_seconds * 1000)
        self._every_seconds = every_seconds
        self._clock_ms = clock_ms

    async def run(self, partition: int) -> None:
        """Deletes what may go, again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._every_seconds)
            try:
                await self.trim(partition)
            except (KafkaError, LogUnavailable, *RETRYABLE) as error:
                log.warning(
                    "log_retention.later", partition=partition, error=f"{type(error).__name__}: {error}"
                )

    async def trim(self, partition: int) -> int:
        """Deletes what may go; returns the offset at which the log begins then.

        Raises KafkaError, LogUnavailable, or what postgres.RETRYABLE lists.
        """
        first, end = await self._log_reader.bounds(partition)
        if first == end:
            return first
        needed = await self._blocks.log_needed_from(partition)
        young = await self._log_reader.offset_at(partition, await self._now(partition, end) - self._keep_ms)
        keep_from = min(needed, young, end)
        if keep_from <= first:
            return first
        await self._delete(partition, keep_from)
        metrics.records_deleted.labels(str(partition)).inc(keep_from - first)
        log.info("log_retention.deleted", partition=partition, first_offset=first, next_offset=keep_from)
        return keep_from

    async def _now(self, partition: int, end: int) -> int:
        """Our own clock, but no later than just after the log's last record, which has the broker's time: one
        clock that is days ahead deletes nothing early. A log that stands still keeps what it has.
        """
        last = await self._log_reader.record_at(partition, end - 1)
        return self._clock_ms() if last is None else min(self._clock_ms(), last.at + 1)

    async def _delete(self, partition: int, next_offset: int) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._kafka)
        try:
            await admin.start()
            await admin.delete_records(
                {TopicPartition(TRACKING_EVENTS, partition): RecordsToDelete(before_offset=next_offset)}
            )
        finally:
            await admin.close()
