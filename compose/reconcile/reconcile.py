"""Reconciles a stack: promises, log, ledger, ClickHouse and its projections, side by side."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from aggregator.domain.batch import LogRecord, decode_batch
from aggregator.domain.lineage import Stretch, gone, lineage
from aggregator.domain.rows import BatchRecord, EventRow
from aggregator.errors import LogGapError
from aggregator.log_reader import LogReader
from compose.errors import ComposeError
from compose.ready import Ready
from compose.reconcile.compare import compare_projection, compare_totals
from compose.reconcile.differences import Differences, Place
from compose.reconcile.event_rows import PROJECTIONS, EventRows
from compose.reconcile.figures import Figures
from compose.reconcile.ledger import Ledger, Snapshot
from compose.reconcile.promises import Promises
from compose.reconcile.walk import WINDOW_MS, Totals, Walk
from schemas.topics import TRACKING_EVENTS

_POLL_S = 0.2
_ROWS_AT_ONCE = 20_000
_OFFSETS_AT_ONCE = 200
_KEPT_FOR_CERTAIN_MS = 24 * 3_600_000
"""Records of batches are dropped with their day, never on the day they were made."""
_SETTLE_ATTEMPTS = 5


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """All sources, by campaign, and what does not agree."""

    snapshot: Snapshot
    sources: Mapping[str, Mapping[str, Figures]]
    """By the name of the source: promises, log, ledger, ClickHouse, by_quarter_hour, by_day."""
    differences: Differences
    projections_compared: bool


class _LogBounds(msgspec.Struct, frozen=True):
    """Where a partition's log begins now, and where it ended when the reconciling began."""

    first_offset: int
    end: int


class Reconciliation:
    """One run against the engines of `stack`. What is read is what the ledger had billed at one moment, so
    traffic may go on meanwhile.

    Memory: the ids of one partition at a time (about 150 bytes an event), all promises (about 500 bytes
    each), some ten thousand rows.
    """

    def __init__(
        self, stack: Ready, promises: Sequence[Path], timeout_s: float, say: Callable[[str], None]
    ) -> None:
        self._stack = stack
        self._timeout_s = timeout_s
        self._say = say
        self._differences = Differences()
        self._promises = Promises(promises, self._differences)
        self._totals = Totals()
        self._not_known: dict[int, list[Stretch]] = defaultdict(list)

    async def run(self) -> Outcome:
        """Waits until the log is billed and stored to where it ends now, then compares."""
        bounds = await log_bounds(self._stack.kafka)
        async with (
            Ledger(self._stack.postgres) as self._ledger,
            EventRows(self._stack.clickhouse) as self._rows,
        ):
            deadline = time.monotonic() + self._timeout_s
            snapshot = await self._billed(bounds, deadline)
            await self._stored(snapshot, deadline)
            bounds = await log_bounds(self._stack.kafka)
            self._log = LogReader(self._stack.kafka)
            try:
                for partition, bound in bounds.items():
                    await self._partition(snapshot, partition, bound)
            finally:
                await self._log.stop()
            self._promises.finish()
            compare_totals(snapshot, self._totals.log, self._totals.rows, self._differences)
            projected = await self._projections(snapshot)
        sources = {
            "promises": self._promises.figures,
            "log": self._totals.log,
            "ledger": snapshot.figures,
            "ClickHouse": self._totals.rows,
            **projected,
        }
        return Outcome(
            snapshot=snapshot,
            sources=sources,
            differences=self._differences,
            projections_compared=bool(projected),
        )

    async def _billed(self, bounds: Mapping[int, _LogBounds], deadline: float) -> Snapshot:
        self._say("waiting until the log is billed")
        while True:
            snapshot = await self._ledger.snapshot()
            behind = {
                partition: bound.end
                for partition, bound in bounds.items()
                if bound.end > _next_offset(snapshot, partition)
            }
            if not behind:
                return snapshot
            if time.monotonic() > deadline:
                for partition, end in behind.items():
                    at = _next_offset(snapshot, partition)
                    place = Place(partition, at, -1)
                    self._differences.add(
                        "not billed to its end", f"billed to {at}, the log ends at {end}", place=place
                    )
                return snapshot
            await asyncio.sleep(_POLL_S)

    async def _stored(self, snapshot: Snapshot, deadline: float) -> None:
        self._say("waiting until what is billed is stored")
        while True:
            waiting: dict[int, str] = {}
            now = (await self._ledger.snapshot()).partitions
            for state in snapshot.partitions.values():
                blocked = now[state.partition].blocked_offset if state.partition in now else 0
                count = await self._ledger.not_stored(state.partition, state.next_offset)
                if blocked < state.next_offset or count:
                    waiting[state.partition] = (
                        f"{count} blocks are not stored, blocks are fixed to {blocked} of {state.next_offset}"
                    )
            if not waiting:
                return
            if time.monotonic() > deadline:
                for partition, detail in waiting.items():
                    self._differences.add(
                        "not stored to its end",
                        detail,
                        place=Place(partition, now[partition].blocked_offset if partition in now else 0, -1),
                    )
                return
            await asyncio.sleep(_POLL_S)

    async def _partition(self, snapshot: Snapshot, partition: int, bound: _LogBounds) -> None:
        state = snapshot.partitions.get(partition)
        if state is None:
            return
        first, end = bound.first_offset, min(state.next_offset, bound.end)
        if end < state.next_offset:
            self._differences.add(
                "the log is shorter than the ledger",
                f"it ends at {end}, {state.next_offset} is billed",
                place=Place(partition, end, -1),
            )
        self._say(f"partition {partition}: offsets {first} to {end}")
        pricing = {campaign_id: account.pricing for campaign_id, account in snapshot.accounts.items()}
        walk = Walk(
            partition,
            totals=self._totals,
            promises=self._promises,
            pricing=pricing,
            blocks=[],
            differences=self._differences,
        )
        history, here = snapshot.history(partition), (state.incarnation, state.next_offset)
        kept = {each.incarnation: each for each in lineage(history, *here)}
        lost = {each.incarnation: each for each in gone(history, *here)}
        for incarnation in range(state.incarnation + 1):
            if incarnation in kept:
                await self._stretch(walk, kept[incarnation], first, end)
            if incarnation in lost:
                await self._without_log(walk, lost[incarnation])

    async def _stretch(self, walk: Walk, whole: Stretch, first: int, end: int) -> None:
        """What was billed of one incarnation of the log, as far as the log still begins before it."""
        below = msgspec.structs.replace(whole, next_offset=min(whole.next_offset, first))
        if below.first_offset < below.next_offset:
            await self._without_log(walk, below)
        stretch = msgspec.structs.replace(
            whole, first_offset=max(whole.first_offset, first), next_offset=min(whole.next_offset, end)
        )
        if stretch.first_offset >= stretch.next_offset:
            return
        batches = await self._ledger.batches(walk.partition, stretch)
        walk.go_on(await self._ledger.blocks(walk.partition, stretch))
        try:
            await self._walk(walk, stretch, batches)
        except LogGapError as error:
            place = Place(walk.partition, stretch.first_offset, -1)
            self._differences.add("records missing in the log", str(error), place=place)
        if batches:
            # Blocks are dropped no earlier than batches, so the first batch stands in one.
            walk.finish(max(stretch.first_offset, batches[0].first_offset), stretch.next_offset)

    async def _without_log(self, walk: Walk, stretch: Stretch) -> None:
        """What the log holds no more: the rows of ClickHouse stand for it."""
        self._totals.add_trimmed(await self._rows.figures(walk.partition, stretch))
        self._not_known[walk.partition].append(stretch)
        if not self._promises:
            return
        for offset in range(stretch.first_offset, stretch.next_offset, _OFFSETS_AT_ONCE):
            part = Stretch(stretch.incarnation, offset, min(offset + _OFFSETS_AT_ONCE, stretch.next_offset))
            for row in await self._rows.between(walk.partition, part):
                self._promises.check_row(row, walk.pricing.get(row.campaign_id))

    async def _know(self, walk: Walk, since: int) -> None:
        """Takes in the ids that the log holds no more and that its next records may repeat."""
        for stretch in self._not_known.pop(walk.partition, ()):
            for each in await self._rows.ids(walk.partition, stretch, since):
                walk.know(each.organization_id, each.event_id, each.received_at)

    async def _walk(self, walk: Walk, stretch: Stretch, batches: Sequence[BatchRecord]) -> None:
        partition, first, end = walk.partition, stretch.first_offset, stretch.next_offset
        whole = [batch for batch in batches if batch.first_offset >= first]
        # The log may begin in the middle of a batch: its record says nothing of the half that is left.
        halved_to = max((batch.next_offset for batch in batches if batch.first_offset < first), default=first)
        expected: list[EventRow] = []
        compared_to, exact = first, True
        async for records, record in _by_batch(self._log.read(partition, first, end), whole):
            await self._know(walk, records[0].at - WINDOW_MS)
            next_offset = records[-1].offset + 1
            if (record is None) == exact and expected:
                await self._compare(walk, expected, stretch, compared_to, records[0].offset, exact=exact)
                expected, compared_to = [], records[0].offset
            exact = record is not None
            if record is None and next_offset > halved_to and _must_be_recorded(records, batches):
                walk.missing_record(records[0].offset, next_offset)
            expected += walk.batch(decode_batch(partition, stretch.incarnation, records), record)
            if len(expected) >= _ROWS_AT_ONCE:
                await self._compare(walk, expected, stretch, compared_to, next_offset, exact=exact)
                expected, compared_to = [], next_offset
        await self._compare(walk, expected, stretch, compared_to, end, exact=exact)

    async def _compare(
        self, walk: Walk, expected: list[EventRow], of: Stretch, first: int, end: int, *, exact: bool
    ) -> None:
        if first < end:
            part = Stretch(of.incarnation, first, end)
            walk.compare(expected, await self._rows.between(walk.partition, part), exact=exact)

    async def _projections(self, snapshot: Snapshot) -> dict[str, dict[str, Figures]]:
        """Projections are compared with the rows of the same moment; while rows come in there is none, and
        after some attempts nothing is compared."""
        for _ in range(_SETTLE_ATTEMPTS):
            before = await self._rows.totals()
            projected = {name: await self._rows.projected(name) for name in PROJECTIONS}
            if before == await self._rows.totals():
                for name, figures in projected.items():
                    compare_projection(name, before, figures, self._differences)
                if (await self._ledger.snapshot()).partitions == snapshot.partitions:
                    # Nothing was billed since: rows outside of the log's partitions show here.
                    compare_projection("(all rows)", self._totals.rows, before, self._differences)
                return projected
            await asyncio.sleep(_POLL_S)
        return {}


async def log_bounds(bootstrap: str) -> dict[int, _LogBounds]:
    """The first offset and the end of each partition of the log, now."""
    consumer = AIOKafkaConsumer(TRACKING_EVENTS, bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        numbers = consumer.partitions_for_topic(TRACKING_EVENTS)
        if not numbers:
            raise ComposeError(f"the topic {TRACKING_EVENTS} is not in Kafka at {bootstrap}.")
        partitions = [TopicPartition(TRACKING_EVENTS, number) for number in sorted(numbers)]
        first = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        return {p.partition: _LogBounds(first[p], ends[p]) for p in partitions}
    finally:
        await consumer.stop()


async def _by_batch(
    log: AsyncIterator[list[LogRecord]], batches: Sequence[BatchRecord]
) -> AsyncIterator[tuple[list[LogRecord], BatchRecord | None]]:
    """Regroups records: each batch of the ledger with exactly its records, the others without one."""
    remaining = iter(batches)
    batch = next(remaining, None)
    group: list[LogRecord] = []
    async for records in log:
        for record in records:
            if batch is not None and record.offset == batch.first_offset and group:
                yield group, None
                group = []
            group.append(record)
            if batch is not None and record.offset + 1 == batch.next_offset:
                whole = group[0].offset == batch.first_offset
                yield group, batch if whole else None
                group, batch = [], next(remaining, None)
        if group and (batch is None or group[0].offset < batch.first_offset):
            yield group, None
            group = []
    if group:
        yield group, None


def _must_be_recorded(records: Sequence[LogRecord], batches: Sequence[BatchRecord]) -> bool:
    """Whether the ledger must have a record of these: an older one is still there, or they are young."""
    if any(batch.first_offset < records[0].offset for batch in batches[:1]):
        return True
    return records[-1].at > time.time() * 1000 - _KEPT_FOR_CERTAIN_MS


def _next_offset(snapshot: Snapshot, partition: int) -> int:
    state = snapshot.partitions.get(partition)
    return state.next_offset if state else 0
