"""The walk finds whatever was altered: in the batch records, the blocks, the rows, the promises."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from aggregator.domain.batch import Batch, LogRecord, decode_batch
from aggregator.domain.billing import Account, bill, tally
from aggregator.domain.blocks import Block, position, position_hash
from aggregator.domain.rows import BatchRecord, EventRow, rows_of
from compose.reconcile.differences import Differences
from compose.reconcile.figures import Figures
from compose.reconcile.promises import Promises
from compose.reconcile.walk import WINDOW_MS, Totals, Walk
from compose.replay.promises import Promise
from schemas.events import TrackingEvent, encode_events
from schemas.reasons import EventType, PricingModel, Unbilled

CAMPAIGN = "01930000-0000-7000-8000-000000000001"
ORGANIZATION = "01930000-0000-7000-8000-0000000000ff"
AT = 1_764_000_000_000


def event(number: int, **changes: object) -> TrackingEvent:
    plain = TrackingEvent(
        event_id=f"e{number}",
        organization_id=ORGANIZATION,
        campaign_id=CAMPAIGN,
        type=EventType.IMPRESSION,
        received_at=AT + number,
        occurred_at=AT + number,
        currency="EUR",
        budget_version=1,
        cost=100,
    )
    return msgspec.structs.replace(plain, **changes)


EVENTS = [
    *(event(n) for n in range(6)),
    event(2, received_at=AT + 50),
    event(7, type=EventType.CLICK, cost=0, billable=False, reason=Unbilled.PAUSED),
    event(8, cost=0, billable=False, reason=Unbilled.BOT),
]
DUPLICATE = 6
BUDGET = 450


class Settled:
    """One record of the log and what settling it gives: the batch's record, its block, its rows."""

    def __init__(self, events: list[TrackingEvent]) -> None:
        self.batch: Batch = decode_batch(0, 0, [LogRecord(5, AT, None, encode_events(events))])
        account = Account(
            campaign_id=CAMPAIGN,
            organization_id=ORGANIZATION,
            currency="EUR",
            budget=BUDGET,
            budget_version=1,
            max_impressions=None,
            billed=0,
            billable_impressions=0,
            flat_billed=False,
            gate_version=0,
        )
        duplicates = [DUPLICATE] if len(events) > DUPLICATE else []
        outcome = bill(
            self.batch.events,
            self.batch.positions,
            duplicates,
            tally(self.batch.events, duplicates),
            {CAMPAIGN: account},
            {},
            partition=0,
            incarnation=0,
        )
        self.delta = outcome.deltas[CAMPAIGN]
        self.record = BatchRecord(
            partition=0,
            incarnation=0,
            first_offset=5,
            next_offset=6,
            epoch=1,
            event_rows=len(events) - len(duplicates),
            billed=self.delta.billed,
            duplicates=[self.batch.positions[index] for index in duplicates],
            dead_letters=[],
            openings=outcome.openings,
        )
        self.rows: list[EventRow] = rows_of(self.batch, self.record)
        positions = [position(row.log_offset, row.event_index) for row in self.rows]
        self.block = Block(
            0, 0, 0, 5, 6, len(self.rows), self.delta.billed, position_hash(positions), epoch=1, attempt=1
        )


@pytest.fixture
def settled() -> Settled:
    return Settled(EVENTS)


def walk(
    settled: Settled,
    *,
    record: BatchRecord | None,
    rows: list[EventRow] | None = None,
    block: Block | None = None,
    promises: Path | None = None,
) -> tuple[Differences, Totals]:
    differences, totals = Differences(), Totals()
    book = Promises([promises] if promises else [], differences)
    walked = Walk(
        0,
        totals=totals,
        promises=book,
        pricing={CAMPAIGN: PricingModel.EVENT},
        blocks=[block or settled.block],
        differences=differences,
    )
    expected = walked.batch(settled.batch, record)
    walked.compare(expected, settled.rows if rows is None else rows, exact=record is not None)
    if record is not None:
        walked.finish(5, 6)
    book.finish()
    return differences, totals


def only(differences: Differences) -> str:
    (difference,) = differences
    return str(difference)


def test_what_was_settled_well_agrees_and_adds_up_like_the_ledger(settled: Settled) -> None:
    differences, totals = walk(settled, record=settled.record)
    assert not differences, list(differences)
    delta, log, rows = settled.delta, totals.log[CAMPAIGN], totals.rows[CAMPAIGN]
    assert (delta.billed, delta.overdelivery) == (BUDGET, 150)
    assert log.cost == rows.cost == delta.billed + delta.overdelivery
    assert (rows.billed, rows.overdelivery) == (delta.billed, delta.overdelivery)
    assert log.impressions == rows.impressions == delta.impressions == 6
    assert log.clicks == rows.clicks == delta.clicks == 1
    assert log.invalid_impressions == delta.invalid_impressions == 1
    assert log.duplicates == delta.duplicates == 1
    assert log.unbilled == rows.unbilled == {"PAUSED": 1}


def test_a_row_that_is_missing_is_named(settled: Settled) -> None:
    differences, _ = walk(settled, record=settled.record, rows=settled.rows[:3] + settled.rows[4:])
    assert "missing in ClickHouse" in only(differences)
    assert "partition 0 offset 5 index 3 eventId e3" in only(differences)


@pytest.mark.parametrize("column", ["billed", "country", "occurred_at", "revenue", "type", "event_id"])
def test_an_altered_column_is_named(settled: Settled, column: str) -> None:
    changed = {"type": "CLICK", "country": "XX", "event_id": "other"}.get(column, 77)
    rows = [*settled.rows]
    rows[1] = msgspec.structs.replace(rows[1], **{column: changed})
    differences, _ = walk(settled, record=settled.record, rows=rows)
    assert "altered in ClickHouse" in only(differences)
    assert f"index 1 eventId e1: {column}: expected" in only(differences)


def test_a_row_that_stands_twice_or_was_never_logged_is_named(settled: Settled) -> None:
    stray = msgspec.structs.replace(settled.rows[0], event_index=99)
    differences, _ = walk(settled, record=settled.record, rows=[*settled.rows, settled.rows[0], stray])
    assert set(differences.counts) == {
        "stored twice in ClickHouse",
        "in ClickHouse but not counted in the log",
    }


@pytest.mark.parametrize(
    "alter",
    [
        lambda r: msgspec.structs.replace(r, billed=r.billed + 1),
        lambda r: msgspec.structs.replace(r, event_rows=r.event_rows + 1),
        lambda r: msgspec.structs.replace(r, duplicates=[]),
        lambda r: msgspec.structs.replace(r, dead_letters=[1]),
    ],
)
def test_an_altered_batch_record_is_named(
    settled: Settled, alter: Callable[[BatchRecord], BatchRecord]
) -> None:
    differences, _ = walk(settled, record=alter(settled.record))
    assert "altered batch in the ledger, partition 0 offset 5" in only(differences)


@pytest.mark.parametrize("name", ["event_rows", "billed", "position_hash"])
def test_an_altered_block_is_named(settled: Settled, name: str) -> None:
    block = msgspec.structs.replace(settled.block, **{name: getattr(settled.block, name) + 1})
    differences, _ = walk(settled, record=settled.record, block=block)
    assert f"block 0, {name}" in only(differences)


def test_without_a_batch_record_rows_are_compared_but_for_the_clipping(settled: Settled) -> None:
    differences, _ = walk(settled, record=None)
    assert not differences, list(differences)
    rows = [*settled.rows]
    rows[5] = msgspec.structs.replace(rows[5], billed=rows[5].billed + 1)
    differences, _ = walk(settled, record=None, rows=rows)
    assert "index 5" in only(differences)


def test_a_copy_after_the_window_counts_again_unless_the_ledger_says_otherwise() -> None:
    late = Settled([event(1), event(1, received_at=AT + 1 + WINDOW_MS)])
    differences, totals = walk(late, record=late.record)
    assert not differences
    assert totals.log[CAMPAIGN].impressions == 2


def promise(number: int, **changes: object) -> Promise:
    logged = next(e for e in EVENTS if e.event_id == f"e{number}")
    status = "accepted" if logged.billable else "unbilled"
    plain = Promise(logged.event_id, CAMPAIGN, logged.type, logged.cost, status, logged.reason or "")
    return msgspec.structs.replace(plain, **changes)


def write(folder: Path, promises: list[Promise]) -> Path:
    file = folder / "promises"
    file.write_bytes(msgspec.json.Encoder().encode_lines(promises))
    return file


NUMBERS = (0, 1, 2, 3, 4, 5, 7, 8)


def test_kept_promises_agree(settled: Settled, tmp_path: Path) -> None:
    file = write(tmp_path, [promise(number) for number in NUMBERS])
    with file.open("ab") as cut_off:
        cut_off.write(b'{"eventId":"e')
    differences, _ = walk(settled, record=settled.record, promises=file)
    assert not differences, list(differences)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"event_id": "never sent"}, "promised but not in the log"),
        ({"cost": 1}, "promised otherwise than logged"),
        ({"type": EventType.CLICK}, "promised otherwise than logged"),
        ({"status": "unbilled", "reason": "PAUSED"}, "promised otherwise than logged"),
    ],
)
def test_an_altered_promise_is_named(
    settled: Settled, tmp_path: Path, changes: dict[str, object], kind: str
) -> None:
    promises = [promise(number) for number in NUMBERS]
    promises[3] = promise(3, **changes)
    differences, _ = walk(settled, record=settled.record, promises=write(tmp_path, promises))
    told = [str(difference) for difference in differences if difference.kind == kind]
    assert len(told) == 1
    assert "line 4" in told[0]


def test_a_removed_promise_is_named(settled: Settled, tmp_path: Path) -> None:
    file = write(tmp_path, [promise(number) for number in NUMBERS if number != 3])
    differences, _ = walk(settled, record=settled.record, promises=file)
    assert "counted but not promised" in only(differences)
    assert "eventId e3" in only(differences)


def test_the_rows_below_a_trimmed_log_stand_for_it() -> None:
    totals = Totals()
    totals.add_trimmed({CAMPAIGN: Figures(impressions=3, billed=20, overdelivery=10, cost=30, revenue=5)})
    log, rows = totals.log[CAMPAIGN], totals.rows[CAMPAIGN]
    assert (log.impressions, log.cost, log.revenue, log.duplicates) == (3, 30, 5, None)
    assert (rows.billed, rows.overdelivery) == (20, 10)
