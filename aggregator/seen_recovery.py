"""Opens a partition's seen ids: what their files lack comes from the log, or from ClickHouse."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path

import numpy as np
import structlog

from aggregator.domain.batch import LogRecord, decode_batch
from aggregator.domain.lineage import Incarnation, Stretch, billed, ends_of, gone, lineage
from aggregator.event_store import EventStore
from aggregator.ledger import Ledger
from aggregator.log_reader import LogReader
from aggregator.postgres import Claim
from aggregator.seen_ids import SEGMENT_IDS, SeenIds, key_of
from aggregator.seen_segment import Ids
from schemas.events import INDEX_BITS

log = structlog.get_logger(__name__)


class SeenRecovery:
    """Raises what retry.TRANSIENT lists when an engine is away or refuses."""

    def __init__(
        self,
        folder: Path,
        window_ms: int,
        owner: str,
        ledger: Ledger,
        log_reader: LogReader,
        events: EventStore,
        clock_ms: Callable[[], int],
    ) -> None:
        self._folder = folder
        self._window_ms = window_ms
        self._owner = owner
        self._ledger = ledger
        self._log_reader = log_reader
        self._events = events
        self._clock_ms = clock_ms

    async def open(self, claim: Claim, history: Sequence[Incarnation], last: LogRecord | None) -> SeenIds:
        """The ids that were counted under this claim and before. `last` is the last record that was billed.

        Files of earlier incarnations are completed first, so that theirs are known when they are sent again.
        """
        now = await self._log_time(claim, last)
        since = now - self._window_ms
        replaced_at = {each.incarnation - 1: each.began_at_ms for each in history}
        *former, _ = billed(history, claim.incarnation, claim.next_offset)
        kept = {each.incarnation: each for each in lineage(history, claim.incarnation, claim.next_offset)}
        lost = {each.incarnation: each for each in gone(history, claim.incarnation, claim.next_offset)}
        for each in former:
            if replaced_at[each.incarnation] >= since:  # of older ones all ids have been forgotten
                parts = kept.get(each.incarnation), lost.get(each.incarnation)
                await self._complete(claim, each, history, *parts, now)
        begin = kept[claim.incarnation].first_offset if claim.incarnation in kept else claim.next_offset
        here = Stretch(claim.incarnation, begin, claim.next_offset)
        seen = self._open(claim, here, history, now)
        missing_from = seen.rebuild_from()
        if missing_from is not None:
            oldest = claim.next_offset
            if last is not None:
                oldest = await self._log_reader.offset_at(claim.partition, since)
            await self._from_log(seen, claim, here, max(missing_from, oldest))
        return seen

    async def _log_time(self, claim: Claim, last: LogRecord | None) -> int:
        """The time of the log where billing stands (epoch ms): what waits there may be long past, and copies
        of what was counted a window before that may be in it. Never ahead of our own clock, whatever a
        broker's says."""
        now = self._clock_ms()
        if last is None and (await self._log_reader.bounds(claim.partition))[1] > claim.next_offset:
            last = await self._log_reader.record_at(claim.partition, claim.next_offset)
        return now if last is None else min(now, last.at)

    def _open(self, claim: Claim, stretch: Stretch, history: Sequence[Incarnation], now: int) -> SeenIds:
        return SeenIds.open(
            self._folder,
            claim.partition,
            stretch.incarnation,
            claim.epoch,
            next_offset=stretch.next_offset,
            now=now,
            first_offset=stretch.first_offset,
            ends=ends_of(history),
            window_ms=self._window_ms,
        )

    async def _complete(
        self,
        claim: Claim,
        whole: Stretch,
        history: Sequence[Incarnation],
        kept: Stretch | None,
        lost: Stretch | None,
        now: int,
    ) -> None:
        """Makes the files of an earlier incarnation hold all that it counted within the window."""
        since = now - self._window_ms
        seen = self._open(claim, whole, history, now)
        missing_from = seen.rebuild_from()
        if missing_from is None:
            return
        if kept is not None:
            oldest = await self._log_reader.offset_at(claim.partition, since)
            await self._from_log(seen, claim, kept, max(missing_from, oldest))
        if lost is not None:
            await self._from_clickhouse(seen, claim, lost, max(missing_from, lost.first_offset), since)
        seen.cover(whole.next_offset)
        seen.seal()

    async def _from_log(self, seen: SeenIds, claim: Claim, stretch: Stretch, start: int) -> None:
        start = max(start, stretch.first_offset)
        log.info(
            "seen_recovery.from_log",
            partition=claim.partition,
            incarnation=stretch.incarnation,
            start=start,
            end=stretch.next_offset,
        )
        async for records in self._log_reader.read(claim.partition, start, stretch.next_offset):
            batch = decode_batch(claim.partition, stretch.incarnation, records)
            # Of these records only: a client may repeat one id for a day.
            dropped = await self._ledger.duplicates_between(
                claim.partition, stretch.incarnation, batch.first_offset, batch.next_offset
            )
            counted = [
                (key_of(event.organization_id, event.event_id), position)
                for position, event in zip(batch.positions, batch.events, strict=True)
                if position not in dropped
            ]
            if counted:
                keys, positions = zip(*counted, strict=True)
                seen.restore(keys, positions, batch.newest_at)

    async def _from_clickhouse(
        self, seen: SeenIds, claim: Claim, stretch: Stretch, start: int, since: int
    ) -> None:
        """Ids whose records are gone. Of what was billed and never stored nobody knows them."""
        log.warning(
            "seen_recovery.from_clickhouse",
            partition=claim.partition,
            incarnation=stretch.incarnation,
            start=start,
            end=stretch.next_offset,
        )
        # No insert of an owner before us may arrive after we have looked.
        await self._events.raise_fence(claim.partition, claim.epoch, self._owner)
        part = Stretch(stretch.incarnation, start, stretch.next_offset)
        async with aclosing(self._events.counted(claim.partition, part, since)) as blocks:
            async for ids in whole_records(blocks, SEGMENT_IDS):
                # In a thread, because it sorts and writes: other partitions have their turn.
                await asyncio.to_thread(seen.restore_segment, ids)


async def whole_records(blocks: AsyncIterable[Ids], most: int) -> AsyncIterator[Ids]:
    """The same ids, at most `most` at a time (more than one record has), that end with a record: a segment is
    sealed behind them, and says then that it has all of its records."""
    kept = Ids(*(np.empty(0, np.uint64) for _ in range(4)))
    async for block in blocks:
        kept = kept.with_all_of(block)
        while len(kept) > most:
            record = kept.positions[most] >> INDEX_BITS
            end = int(np.searchsorted(kept.positions, record << INDEX_BITS))
            yield kept.only(slice(end))
            kept = kept.only(slice(end, None))
    if len(kept):
        yield kept
