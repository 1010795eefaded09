"""A consumer of Faust whose streams deliver nothing before they stand where they are to go on."""

from collections.abc import Iterable, Mapping

import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP


class SoughtConsumer(driver.Consumer):
    """Holds back the streams' partitions after each rebalance until they have been sought.

    An app with tables resumes its streams before it seeks, with the fetcher running. Until the seek is done
    it would hand out records from wherever the client stands, and remember the newest of them: what comes
    after the seek then counts as seen and is dropped, until the next rebalance.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._sought: set[TP] = set()
        self._held: set[TP] = set()

    async def seek_streams(self) -> Mapping[TP, int]:
        """Seeks the assigned partitions and returns where to; the others stay held back until `release`.

        Faust leaves a partition without a committed offset where the client stands, which is behind whatever
        was fetched in a rebalance and thrown away: such a one is sought to its beginning.
        """
        committed = dict(await super().seek_to_committed())
        never = [tp for tp, offset in committed.items() if not offset and not self._is_changelog_tp(tp)]
        if never:
            earliest = await self.earliest_offsets(*never)
            await self.seek_wait(earliest)
            committed.update(earliest)
        return committed

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
        self._forget()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._forget()
        await super().on_partitions_assigned(assigned, generation_id)

    def _forget(self) -> None:
        self._sought.clear()
        self._held.clear()


class SoughtTransport(driver.Transport):
    """Kafka with consumers that wait for their seek."""

    Consumer = SoughtConsumer


class SoughtApp(faust.App):
    """An app with such a consumer."""

    def _new_transport(self) -> driver.Transport:
        return SoughtTransport(self.conf.broker_consumer, self)
