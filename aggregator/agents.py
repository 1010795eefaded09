"""Faust: group membership, the worker's life, and the agent that hands records to the settlement.

The ledger says where a partition goes on, not Kafka: `seek_to_committed` is what Faust calls after every
rebalance, for all assigned partitions, while they are paused. What Faust commits is for lag displays.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Protocol

import structlog
from aiokafka.structs import ConsumerRecord
from faust.exceptions import ConsumerNotStarted
from faust.types import TP

from aggregator.domain.batch import LogRecord
from aggregator.ending import in_time
from aggregator.log_reader import log_record
from aggregator.settings import Settings
from aggregator.settlement import Settlement
from aggregator.sought_consumer import SoughtApp, SoughtConsumer, SoughtTransport
from aggregator.takes import takes
from schemas.topics import TRACKING_EVENTS

log = structlog.get_logger(__name__)

_MIB = 1024 * 1024
_FETCH_BYTES = 2 * _MIB
"""Of one partition, at most; a record that is larger comes alone."""
_FETCH_RECORDS = 400
_TAKE_BYTES = 8 * _MIB
"""Of the log, settled together: some 18,000 events, of all partitions. As much is collected meanwhile."""
_FETCHES_AHEAD = 4
"""That wait for a take, each of one partition."""
_OTHERS_AHEAD = 800
"""Messages of other topics that wait. More than the takes of live windows, or they wait for each other."""

_SEEK_SECONDS = 5.0
"""So long all partitions wait for each other: Faust hands out nothing before the seek is done. It would wait
for 90 seconds, then cancel it without a word and go on as if it were done."""


class LedgerConsumer(SoughtConsumer):
    """A consumer whose `tracking-events` partitions go on where the ledger says."""

    app: "AggregatorApp"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._late: set[asyncio.Task[None]] = set()
        self._connections: set[Any] = set()

    @property
    def is_seeking(self) -> bool:
        """While a claim goes on in the background."""
        return bool(self._late)

    def is_claimed(self) -> bool:
        """Whether every assigned partition of the log stands where the ledger says. Not while a claim goes on
        in the background, nor before the consumer has started."""
        try:
            assigned = self.assignment()
        except ConsumerNotStarted:
            return False
        return {tp for tp in assigned if tp.topic == TRACKING_EVENTS} <= self._sought

    def reconnected(self) -> bool:
        """Whether Kafka was connected anew since this was asked for last."""
        client = self._thread._ensure_consumer()._client  # noqa: SLF001  aiokafka tells nobody of its connections
        present = list(client._conns.values())  # noqa: SLF001  a copy in one step: it lives in another thread
        connections = set(present)
        is_new = bool(self._connections) and not connections <= self._connections
        if connections:  # while there are none, the next ones are new all the same
            self._connections = connections
        return is_new

    async def _getmany(
        self,
        active_partitions: set[TP] | None,
        timeout: float,  # noqa: ASYNC109  Faust's own signature
    ) -> Mapping[TP, list[Any]]:
        """Makes what a fetch brings of a partition of the log one message, at the offset of its last record:
        Faust takes as long over a message as it takes to settle ten events."""
        fetched = await super()._getmany(active_partitions, timeout)
        return {
            tp: [_as_one(records)] if tp.topic == TRACKING_EVENTS else records
            for tp, records in fetched.items()
            if records
        }

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        if tp.topic != TRACKING_EVENTS:  # where between two messages are the records of the second one
            await super()._add_gap(tp, offset_from, offset_to)

    def _new_offset(self, tp: TP) -> int | None:
        """Behind the newest message that was acknowledged: those of the log are, in their order."""
        if tp.topic != TRACKING_EVENTS:
            return super()._new_offset(tp)
        acked = self._acked[tp]
        newest = max(acked, default=None)
        acked.clear()
        self._acked_index[tp].clear()
        return None if newest is None else newest + 1

    async def seek_streams(self) -> Mapping[TP, int]:
        """Claims the partitions. What takes long (a day of seen ids from the log) goes on in the background:
        those partitions are held back until it is done."""
        committed = await super().seek_streams()
        offsets = {tp: offset for tp, offset in committed.items() if tp.topic != TRACKING_EVENTS}
        partitions = [tp.partition for tp in self.assignment() if tp.topic == TRACKING_EVENTS]
        claimed: dict[TP, int] = {}
        claiming = asyncio.create_task(self._seek_to_ledger(partitions, claimed))
        try:
            done, _ = await asyncio.wait({claiming}, timeout=_SEEK_SECONDS)
        except asyncio.CancelledError:
            claiming.cancel()
            raise
        if done:
            claiming.result()
        else:
            log.info("agents.still_claiming", partitions=partitions)
            self._late.add(claiming)
            claiming.add_done_callback(self._claimed_late)
        return {**offsets, **claimed}

    async def _seek_to_ledger(self, partitions: Iterable[int], claimed: dict[TP, int]) -> None:
        """Each partition goes on once it is claimed, however long another one takes."""
        claiming = asyncio.current_task()

        async def go_on(partition: int, offset: int) -> None:
            tp = TP(TRACKING_EVENTS, partition)
            await self.seek_wait({tp: offset})
            claimed[tp] = offset
            if claiming in self._late:
                self._read_offset[tp] = offset
                self.release([tp])

        await self.app.settlement.assign(partitions, go_on)

    def _claimed_late(self, claiming: asyncio.Task[None]) -> None:
        self._late.discard(claiming)
        if not claiming.cancelled() and (error := claiming.exception()) is not None:
            self._failure = asyncio.ensure_future(self.app.crash(error))

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        if not any(tp.topic == TRACKING_EVENTS for tp in assigned):
            # Nothing is sought then, and that is what lets go of partitions otherwise.
            await self.app.settlement.assign(())
        await super().on_partitions_assigned(assigned, generation_id)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        for claiming in self._late:
            claiming.cancel()
        await super().on_partitions_revoked(revoked)
        await self.app.settlement.quiesce()


class _Transport(SoughtTransport):
    Consumer = LedgerConsumer


class Lifecycle(Protocol):
    """What lives as long as the worker does."""

    async def start(self) -> None:
        """Called before the consumer joins its group."""

    async def stop(self) -> None:
        """Called when the consumer has stopped."""


class AggregatorApp(SoughtApp):
    """The Faust app. `lifecycle.start` sets `settlement` before the consumer starts."""

    settlement: Settlement
    lifecycle: Lifecycle

    async def on_first_start(self) -> None:
        await super().on_first_start()
        await self.lifecycle.start()

    async def on_shutdown(self) -> None:
        await super().on_shutdown()
        await self.lifecycle.stop()

    async def stop(self) -> None:
        async with in_time(self.lifecycle.stop, lambda: 1 if self.crash_reason else 0):
            await super().stop()

    def _new_transport(self) -> _Transport:
        return _Transport(self.conf.broker_consumer, self)


def build_app(settings: Settings, lifecycle: Lifecycle) -> AggregatorApp:
    """The app with the settle agent. The settings are those that the spikes measured to be safe."""
    app = AggregatorApp(
        settings.group,
        broker=[f"kafka://{server}" for server in settings.kafka.split(",")],
        store="memory://",
        datadir=str(settings.state / "faust"),
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        table_standby_replicas=0,
        consumer_auto_offset_reset="earliest",
        stream_buffer_maxsize=_OTHERS_AHEAD,
        broker_session_timeout=settings.session_timeout_seconds,
        broker_heartbeat_interval=settings.session_timeout_seconds / 4,
        broker_rebalance_timeout=10,
        consumer_group_instance_id=settings.group_instance,
        broker_max_poll_interval=300,
        broker_max_poll_records=_FETCH_RECORDS,
        consumer_max_fetch_size=_FETCH_BYTES,
        broker_commit_interval=5,
        # The default supervisor restarts an agent behind the record that failed: that record would be lost.
        agent_supervisor="mode.CrashingSupervisor",
    )
    app.lifecycle = lifecycle
    topic: Any = app.topic(TRACKING_EVENTS, key_serializer="raw", value_serializer="raw")
    topic.maxsize = _FETCHES_AHEAD  # `app.topic` takes the argument and forgets it

    async def bill(events: Sequence[Any]) -> None:
        consumer: Any = app.consumer
        if consumer.reconnected():
            await app.settlement.compare_logs()
        settled = await asyncio.gather(
            *(app.settlement.settle(partition, records) for partition, records in by_partition(events))
        )
        for event in events:
            if event.message.partition in settled:
                event.ack()

    async def settle(stream: Any) -> None:
        fetched, within = stream.noack().events(), settings.bill_linger_seconds
        async with aclosing(takes(fetched, _size_of, most=_TAKE_BYTES, within=within)) as all_of:
            async for events in all_of:
                await bill(events)

    app.agent(topic, name="settle")(settle)
    return app


def _size_of(event: Any) -> int:
    size: int = event.message.serialized_value_size
    return size


def by_partition(events: Iterable[Any]) -> Iterable[tuple[int, list[LogRecord]]]:
    """The records of Faust's events by partition, in the order of the log."""
    partitions: dict[int, list[LogRecord]] = {}
    for event in events:
        partitions.setdefault(event.message.partition, []).extend(event.value)
    return partitions.items()


def _as_one(records: "Sequence[ConsumerRecord[Any, Any]]") -> "ConsumerRecord[Any, Any]":
    """The last one, with all of them as the domain's records for its value."""
    value = [log_record(record.offset, record.timestamp, record.headers, record.value) for record in records]
    size = sum(len(record.value) for record in value)
    return replace(records[-1], key=None, value=value, headers=(), serialized_value_size=size)
