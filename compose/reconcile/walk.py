"""The log of one partition, walked beside what the ledger recorded of it and the rows that ClickHouse holds.

Pure: records, batch records and rows are handed in, in the order of the log. What counts is decided anew
from the log (the first copy of an id), and then compared.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from aggregator.domain.batch import WHOLE_RECORD, Batch
from aggregator.domain.blocks import Block, position, position_hash
from aggregator.domain.rows import BatchRecord, EventRow, rows_of
from compose.reconcile.differences import Differences, Place
from compose.reconcile.figures import Figures
from compose.reconcile.promises import Promises
from schemas.events import INDEX_BITS, TrackingEvent
from schemas.reasons import EventType, PricingModel, Unbilled

WINDOW_MS = 24 * 3_600_000
"""An id counts once within this time. A copy that comes later may count again or not: the ledger says."""

_SKEW_MS = 5 * 60_000
_INDEX_MASK = (1 << INDEX_BITS) - 1
_ZERO = {"cost": 0, "billed": 0, "overdelivery": 0}


class Totals:
    """What the log and the rows of ClickHouse add up to, over all partitions."""

    def __init__(self) -> None:
        self.log: dict[str, Figures] = {}
        self.rows: dict[str, Figures] = {}
        self._flat: dict[str, int] = {}

    def add_event(self, event: TrackingEvent, *, counted: bool) -> None:
        """Adds an event of the log; a copy counts as a duplicate and in nothing else."""
        figures = _of(self.log, event.campaign_id, Figures(duplicates=0, revenue=0, cost=0))
        if not counted:
            if figures.duplicates is not None:
                figures.duplicates += 1
            return
        figures.count(event.type, "" if event.billable else event.reason or "")
        if event.reason is not Unbilled.BOT:
            figures.revenue = (figures.revenue or 0) + event.revenue
        if not event.billable:
            return
        if not event.flat:
            figures.cost = (figures.cost or 0) + event.cost
        elif event.campaign_id not in self._flat:
            # A flat fee is due once; it can't change once a campaign has run.
            self._flat[event.campaign_id] = event.cost
            figures.cost = (figures.cost or 0) + event.cost

    def add_row(self, row: EventRow) -> None:
        """Adds a row of ClickHouse."""
        figures = _of(self.rows, row.campaign_id, Figures(revenue=0, billed=0, overdelivery=0, cost=0))
        figures.count(EventType(row.type), row.reason)
        figures.billed = (figures.billed or 0) + row.billed
        figures.overdelivery = (figures.overdelivery or 0) + row.overdelivery
        figures.cost = figures.billed + figures.overdelivery
        if not row.bot:
            figures.revenue = (figures.revenue or 0) + row.revenue

    def add_trimmed(self, below: Mapping[str, Figures]) -> None:
        """Adds what lies below the beginning of a log: its rows stand for it; duplicates are not known."""
        for campaign_id, figures in below.items():
            for side in (self.log, self.rows):
                _merge(_of(side, campaign_id, Figures(revenue=0, cost=0)), figures)
            self.log[campaign_id].billed = self.log[campaign_id].overdelivery = None
            self.log[campaign_id].duplicates = None


class Walk:
    """One partition. Call `batch` for each group of records, `compare` for the rows of a range, `finish`."""

    def __init__(
        self,
        partition: int,
        *,
        totals: Totals,
        promises: Promises,
        pricing: Mapping[str, PricingModel | None],
        blocks: Sequence[Block],
        differences: Differences,
    ) -> None:
        self.partition = partition
        self._totals = totals
        self._promises = promises
        self.pricing = pricing
        self._differences = differences
        self._blocks = _Blocks(blocks, differences)
        self._counted_at: dict[int, int] = {}

    def go_on(self, blocks: Sequence[Block]) -> None:
        """Goes on in another incarnation of the partition, with its blocks; ids stay known."""
        self._blocks = _Blocks(blocks, self._differences)

    def know(self, organization_id: str, event_id: str, received_at: int) -> None:
        """Takes in an id that was counted where the log holds nothing any more."""
        self._counted_at[_id_hash(organization_id, event_id)] = received_at

    def batch(self, batch: Batch, record: BatchRecord | None) -> list[EventRow]:
        """The rows that ClickHouse must hold for these records. `record` is what the ledger keeps of exactly
        these; without one, `billed` of its rows is the whole cost."""
        recorded = frozenset(record.duplicates) if record else frozenset[int]()
        duplicates: list[int] = []
        for at, event in zip(batch.positions, batch.events, strict=True):
            counted = self._counts(event, batch.newest_at, at in recorded)
            if not counted:
                duplicates.append(at)
            self._totals.add_event(event, counted=counted)
            place = self._place(at, event.event_id, batch.incarnation)
            self._promises.check(event, place, self.pricing.get(event.campaign_id), counted=counted)
        mine = BatchRecord(
            partition=batch.partition,
            incarnation=batch.incarnation,
            first_offset=batch.first_offset,
            next_offset=batch.next_offset,
            epoch=record.epoch if record else 0,
            event_rows=len(batch.events) - len(duplicates),
            billed=0,
            duplicates=duplicates,
            dead_letters=[
                position(d.offset, WHOLE_RECORD if d.index < 0 else d.index) for d in batch.dead_letters
            ],
            openings=record.openings if record else {},
        )
        rows = rows_of(batch, mine)
        if record is not None:
            self._check_record(record, msgspec.structs.replace(mine, billed=sum(row.billed for row in rows)))
            self._blocks.add(rows)
        return rows

    def missing_record(self, first_offset: int, next_offset: int) -> None:
        """Says that the ledger has no record of a range that it has billed."""
        self._differences.add(
            "billed batch missing in the ledger",
            f"no record covers offsets {first_offset} to {next_offset - 1}",
            place=Place(self.partition, first_offset, -1),
        )

    def compare(self, expected: Iterable[EventRow], actual: Iterable[EventRow], *, exact: bool) -> None:
        """Compares the rows of a range; with `exact` false what is billed is only compared in sum with
        overdelivery."""
        wanted = {position(row.log_offset, row.event_index): row for row in expected}
        found: set[int] = set()
        for row in actual:
            self._totals.add_row(row)
            at = position(row.log_offset, row.event_index)
            if at in found:
                self._tell("stored twice in ClickHouse", "a second row at these coordinates", row)
            elif at not in wanted:
                self._tell("in ClickHouse but not counted in the log", row.type, row)
            elif text := _altered(wanted[at], row, exact=exact):
                self._tell("altered in ClickHouse", text, wanted[at])
            found.add(at)
        for at, row in wanted.items():
            if at not in found:
                self._tell("missing in ClickHouse", f"{row.type}, billed {row.billed}", row)

    def finish(self, first_offset: int, blocked_offset: int) -> None:
        """Compares the blocks from the first recorded batch to where blocks are fixed. Call at the end."""
        self._blocks.finish(self.partition, first_offset, blocked_offset)

    def _counts(self, event: TrackingEvent, log_time: int, recorded_as_duplicate: bool) -> bool:
        """Whether the event is the first copy. Of one that came into the log a window after its receivedAt
        the ledger says so: it has asked ClickHouse, for the log may not hold the other copy any more."""
        key = _id_hash(event.organization_id, event.event_id)
        before = self._counted_at.get(key)
        if before is not None and (event.received_at - before < WINDOW_MS or recorded_as_duplicate):
            return False
        if recorded_as_duplicate and log_time - event.received_at > WINDOW_MS - _SKEW_MS:
            return False
        self._counted_at[key] = event.received_at
        return True

    def _check_record(self, record: BatchRecord, mine: BatchRecord) -> None:
        for name in ("event_rows", "billed", "duplicates", "dead_letters"):
            kept, expected = getattr(record, name), getattr(mine, name)
            if name in {"duplicates", "dead_letters"}:
                kept, expected = sorted(kept), sorted(expected)
            if kept != expected:
                place = Place(self.partition, record.first_offset, -1, incarnation=record.incarnation)
                detail = f"{name}: the ledger has {_short(kept)}, the log gives {_short(expected)}"
                self._differences.add("altered batch in the ledger", detail, place=place)

    def _place(self, at: int, event_id: str, incarnation: int) -> Place:
        return Place(self.partition, at >> INDEX_BITS, at & _INDEX_MASK, event_id, incarnation)

    def _tell(self, kind: str, detail: str, row: EventRow) -> None:
        place = Place(row.partition, row.log_offset, row.event_index, row.event_id, row.incarnation)
        self._differences.add(kind, detail, campaign_id=row.campaign_id, place=place)


class _Blocks:
    """The ledger's blocks beside the rows that belong to them."""

    def __init__(self, blocks: Sequence[Block], differences: Differences) -> None:
        self._blocks = list(blocks)
        self._differences = differences
        self._sums = {block.block: [0, 0] for block in blocks}
        self._positions: dict[int, list[int]] = {block.block: [] for block in blocks}
        self._at = 0

    def add(self, rows: Iterable[EventRow]) -> None:
        for row in rows:
            while self._at < len(self._blocks) and row.log_offset >= self._blocks[self._at].next_offset:
                self._at += 1
            if self._at == len(self._blocks):
                return
            block = self._blocks[self._at]
            if row.log_offset >= block.first_offset:
                self._sums[block.block][0] += 1
                self._sums[block.block][1] += row.billed
                self._positions[block.block].append(position(row.log_offset, row.event_index))

    def finish(self, partition: int, first_offset: int, end: int) -> None:
        """Blocks that lie within the range as a whole are compared; all of the range must be covered."""
        covered = first_offset
        for block in self._blocks:
            if block.first_offset > covered:
                self._missing(partition, covered, block.first_offset)
            if first_offset <= block.first_offset and block.next_offset <= end:
                self._close(block)
            covered = max(covered, block.next_offset)
        if covered < end:
            self._missing(partition, covered, end)

    def _close(self, block: Block) -> None:
        rows, billed = self._sums.pop(block.block)
        hashed = position_hash(self._positions.pop(block.block))
        mine = {"event_rows": rows, "billed": billed, "position_hash": hashed}
        for name, expected in mine.items():
            kept = getattr(block, name)
            if kept != expected:
                self._differences.add(
                    "altered block in the ledger",
                    f"block {block.block}, {name}: the ledger has {kept}, the log gives {expected}",
                    place=Place(block.partition, block.first_offset, -1, incarnation=block.incarnation),
                )

    def _missing(self, partition: int, first_offset: int, next_offset: int) -> None:
        self._differences.add(
            "block missing in the ledger",
            f"no block covers offsets {first_offset} to {next_offset - 1}",
            place=Place(partition, first_offset, -1),
        )


def _altered(wanted: EventRow, row: EventRow, *, exact: bool) -> str:
    """The columns that differ, as text; empty when none does."""
    if row == wanted:
        return ""
    left, right = msgspec.structs.asdict(wanted), msgspec.structs.asdict(row)
    if not exact:
        whole = row.billed + row.overdelivery
        if row.cost == whole and whole in {wanted.cost, 0}:
            left, right = left | _ZERO, right | _ZERO
    return ", ".join(
        f"{name}: expected {left[name]!r}, found {right[name]!r}"
        for name in left
        if left[name] != right[name]
    )


def _id_hash(organization_id: str, event_id: str) -> int:
    """64 bits: among ten million ids of a partition two collide with a chance of 3 in a million."""
    return int.from_bytes(hashlib.blake2b(f"{organization_id}\0{event_id}".encode(), digest_size=8).digest())


def _of(side: dict[str, Figures], campaign_id: str, empty: Figures) -> Figures:
    return side.setdefault(campaign_id, empty)


def _merge(into: Figures, other: Figures) -> None:
    for name in Figures.__struct_fields__:
        mine, theirs = getattr(into, name), getattr(other, name)
        if theirs is not None:
            setattr(into, name, theirs if mine is None else mine + theirs)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"  # noqa: PLR2004  a line of a terminal
