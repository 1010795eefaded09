"""Emptying spools into Kafka: in their order, and a record is forgotten only when Kafka has it."""

import asyncio
from pathlib import Path

import structlog

from ingest import metrics, spool_slots
from ingest.domain.circuit import State
from ingest.domain.repack import repacked
from ingest.errors import NotConfirmed
from ingest.kafka_sink import KafkaSink
from ingest.spool import Spool
from ingest.spool_slots import Slot

log = structlog.get_logger(__name__)

_AT_ONCE_BYTES = 1024 * 1024
_PAUSE_SECONDS = 0.05
_PAUSE_WHILE_UNREADABLE_SECONDS = 1.0
_LOOK_FOR_ORPHANS_SECONDS = 2.0


class Drain:
    """Sends what a spool holds whenever Kafka answers."""

    def __init__(self, spool: Spool, kafka: KafkaSink) -> None:
        self._spool = spool
        self._kafka = kafka

    async def run(self) -> None:
        """Drains until cancelled."""
        while True:
            await self._spool.filled()
            await self._some()

    async def until_empty(self) -> None:
        """Drains until the spool holds nothing."""
        while self._spool.held.records:
            await self._some()

    async def _some(self) -> None:
        """Sends the oldest records; waits for Kafka if need be."""
        await self._kafka.reachable()
        records = await self._spool.oldest(_AT_ONCE_BYTES)
        if not records:
            await asyncio.sleep(_PAUSE_WHILE_UNREADABLE_SECONDS)
            return
        try:
            await self._send([record.lines for record in records])
        except NotConfirmed:
            await asyncio.sleep(_PAUSE_SECONDS)
            return
        await self._spool.forget(records)
        metrics.DRAINED_EVENTS.inc(sum(record.events for record in records))

    async def _send(self, pieces: list[bytes]) -> None:
        """Returns when Kafka has all of them. Raises NotConfirmed when it may lack some: send all again."""
        by_partition = repacked(pieces, self._kafka.partitions)
        if self._kafka.state is not State.CLOSED:
            # One record tries whether Kafka is back, before the others are in danger of coming twice.
            partition = next(iter(by_partition))
            await self._kafka.deliver(partition, by_partition[partition].pop(0))
        outcomes = await asyncio.gather(
            *(self._send_in_order(partition, records) for partition, records in by_partition.items()),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _send_in_order(self, partition: int, records: list[bytes]) -> None:
        for lines in records:
            await self._kafka.deliver(partition, lines)


async def adopt_orphans(state: Path, kafka: KafkaSink) -> None:
    """Drains what doors that are gone have left on this machine, one after the other, until cancelled."""
    while True:
        await asyncio.sleep(_LOOK_FOR_ORPHANS_SECONDS)
        if kafka.state is State.OPEN:
            continue
        try:
            slot = await asyncio.to_thread(spool_slots.orphan, state)
        except OSError as error:
            log.warning("spool.orphans_not_looked_for", error=str(error))
            continue
        if slot is not None:
            await _drain_orphan(slot, kafka)


async def _drain_orphan(slot: Slot, kafka: KafkaSink) -> None:
    spool = Spool(lambda: slot, max_bytes=0, commit_seconds=0)
    emptied = False
    try:
        await spool.open()
        log.info("spool.adopted", slot=slot.number, events=spool.held.events)
        metrics.SPOOLS_ADOPTED.inc()
        await Drain(spool, kafka).until_empty()
        emptied = not spool.fault
    finally:
        await spool.close(remove=emptied)
