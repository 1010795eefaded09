"""A consumer of Faust whose streams deliver nothing before they stand where they are to go on."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import aiokafka
import faust
import structlog
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from aggregator.errors import NotSought

log = structlog.get_logger(__name__)

_SOUGHT_WITHIN_SECONDS = 120.0
"""From the beginning of a rebalance on, and again from an assignment on. Faust restores its tables first, and
waits for 90 s for a seek itself."""


class Listener(Protocol):
    """Keeps records of a topic without acknowledging them at once."""

    @property
    def topic(self) -> str:
        """Whose records it keeps: nobody waits for their acknowledgement."""

    def revoked(self) -> None:
        """All partitions may go to others: what is not acknowledged will be delivered again, to whom ever."""

    def assigned(self) -> None:
        """From now on records come from where they are to go on."""


class SoughtThread(driver.AIOKafkaConsumerThread):
    """Kafka's client in its thread, which takes no record from where it was sought to that nobody will get.

    Faust lends it the set of active partitions, which changes while a fetch waits: while all are held back it
    is empty, and an empty set means all partitions to the client. And a fetch goes on in this thread when a
    rebalance has cancelled its caller. What such a one takes is put back; otherwise it would come again only
    after the next rebalance.
    """

    consumer: "SoughtConsumer"

    async def _fetch_records(
        self,
        consumer: aiokafka.AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109  Faust's own signature
        max_records: int | None = None,
    ) -> Mapping[TP, list[Any]]:
        assignment = self.consumer.assignments
        asked = set(active_partitions)
        if not asked:
            return {}
        fetched = dict(await super()._fetch_records(consumer, asked, timeout, max_records))
        # Nothing is awaited between the taking and this, so no seek lies between them.
        if self.consumer.assignments == assignment:
            unwanted = fetched.keys() - active_partitions
        else:
            unwanted = set(fetched)
        for tp in unwanted:
            first = fetched.pop(tp)[0]
            if tp in consumer.assignment():
                consumer.seek(tp, first.offset)
        return fetched


class SoughtConsumer(driver.Consumer):
    """Holds back the streams' partitions after each rebalance until they have been sought.

    An app with tables resumes its streams before it seeks, with the fetcher running. Until the seek is done
    it would hand out records from wherever the client stands, and remember the newest of them: what comes
    after the seek then counts as seen and is dropped, until the next rebalance.

    Faust's restoring of tables was seen to wait for ever after Kafka had been frozen: no seek came, and
    nothing was billed. So a process whose partitions are not sought in time ends, to be started again.
    """

    app: "SoughtApp"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.assignments = 0
        """Counts changes of the assignment, to know what was begun before one."""
        self._sought: set[TP] = set()
        self._held: set[TP] = set()
        self._watching: asyncio.Task[None] | None = None

    @property
    def is_seeking(self) -> bool:
        """Whether a seek is under way that takes long for a good reason."""
        return False

    async def seek_streams(self) -> Mapping[TP, int]:
        """Seeks the assigned partitions and returns where to; the others stay held back until `release`.

        Faust leaves a partition without a committed offset where the client stands, which is behind whatever
        was fetched in a rebalance and thrown away: such a one is sought to its beginning.
        """
        # Under Kafka's client's own type, which equals Faust's: a set may keep either, and Faust refuses it.
        sought = await super().seek_to_committed()
        committed = {TP(tp.topic, tp.partition): offset for tp, offset in sought.items()}
        never = [tp for tp, offset in committed.items() if not offset and not self._is_changelog_tp(tp)]
        if never:
            earliest = await self.earliest_offsets(*never)
            await self.seek_wait(earliest)
            committed.update(earliest)
        return committed

    async def perform_seek(self) -> None:
        """Seeks once after each rebalance, when an app with tables lets records flow again.

        Faust's fetcher asks for it too, when it was waiting for records while a rebalance began. Partitions
        would count as sought then, and flow, while the seek that was meant moves them once more: a record was
        lost in between. What the fetcher took is put back by its thread, and sought after the rebalance.
        """
        if self.flow_active:
            await super().perform_seek()

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """What Faust calls after every rebalance, for all assigned partitions."""
        generation = self.app.consumer_generation_id
        offsets = await self.seek_streams()
        if generation == self.app.consumer_generation_id:
            self.release(offsets)
        return offsets

    def release(self, sought: Iterable[TP]) -> None:
        """Says that these stand where they are to go on: those that Faust wanted to resume do so."""
        self._sought.update(sought)
        ready = self._held & self._sought
        self._held -= ready
        super().resume_partitions(ready)

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Resumes what was sought, and changelogs, which tables seek by themselves."""
        wanted = set(tps)
        ready = {tp for tp in wanted if tp in self._sought or self._is_changelog_tp(tp)}
        self._held |= wanted - ready
        super().resume_partitions(ready)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self.app.tell_revoked()
        self._forget()
        self._watching = asyncio.ensure_future(self._require_sought())
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._forget()
        self._watching = asyncio.ensure_future(self._require_sought())
        self.app.tell_assigned()
        await super().on_partitions_assigned(assigned, generation_id)

    async def wait_empty(self) -> None:
        """Waits for what is being processed; not for what is kept to be acknowledged later, which Faust and
        its agents hold references to."""
        for message in tuple(self._unacked_messages):
            if message.topic in self.app.kept_topics:
                message.acked = True  # and so no acknowledgement that comes late is heard
                self._unacked_messages.discard(message)
        await super().wait_empty()

    def _new_consumer_thread(self) -> SoughtThread:
        return SoughtThread(self, loop=self.loop, beacon=self.beacon)

    def _forget(self) -> None:
        self.assignments += 1
        self._sought.clear()
        self._held.clear()
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    async def _require_sought(self) -> None:
        """Ends the process when partitions of this assignment are not sought in time."""
        missing: set[TP] = set()
        while True:
            await asyncio.sleep(_SOUGHT_WITHIN_SECONDS)
            missing = {tp for tp in self.assignment() if not self._is_changelog_tp(tp)} - self._sought
            if not missing:
                return
            if not self.is_seeking:
                break
        log.error("consumer.not_sought", partitions=sorted(map(str, missing)))
        await self.app.crash(NotSought(f"{len(missing)} partitions were not sought after their assignment"))


class SoughtTransport(driver.Transport):
    """Kafka with consumers that wait for their seek."""

    Consumer = SoughtConsumer


class SoughtApp(faust.App):
    """An app with such a consumer."""

    _listeners: tuple[Listener, ...] = ()

    def listen(self, listener: Listener) -> None:
        """Tells it of rebalances, and of the end."""
        self._listeners += (listener,)

    @property
    def kept_topics(self) -> set[str]:
        """Whose records are acknowledged later than they are processed."""
        return {listener.topic for listener in self._listeners}

    def tell_revoked(self) -> None:
        """Called before Faust waits for acknowledgements."""
        for listener in self._listeners:
            listener.revoked()

    def tell_assigned(self) -> None:
        """Called before the first record of an assignment."""
        for listener in self._listeners:
            listener.assigned()

    async def stop(self) -> None:
        self.tell_revoked()
        await super().stop()

    def _new_transport(self) -> driver.Transport:
        return SoughtTransport(self.conf.broker_consumer, self)
