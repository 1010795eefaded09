"""The rows that ClickHouse gets: a pure function of the log and of what the ledger keeps of a batch."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from aggregator.domain.batch import Batch
from aggregator.domain.billing import Opening, Remaining
from aggregator.domain.blocks import Block, hash_of_all, position_hash
from schemas.events import INDEX_BITS, TrackingEvent, encode_events
from schemas.reasons import Unbilled

_DAY_MS = 86_400_000
_AT_ONCE = 500
"""Rows whose lines are made while they are in the processor's cache: all of a batch, some megabytes, take a
third longer."""


class EventRow(msgspec.Struct, frozen=True, gc=False):
    """One row of ClickHouse's `events` but for `block`, `epoch` and `attempt`, which the insert adds.

    Field names are the columns'. Times are epoch milliseconds, money is micros; `data` is JSON text.
    """

    organization_id: str
    campaign_id: str
    event_id: str
    type: str
    occurred_at: int
    received_at: int
    channel: str
    placement: str
    variant: str
    country: str
    visitor_id: str
    customer_id: str
    click_id: str
    url: str
    referrer: str
    user_agent: str
    data: str
    currency: str
    budget_version: int
    billable: bool
    reason: str
    bot: bool
    cost: int
    billed: int
    overdelivery: int
    revenue: int
    revenue_verified: bool
    incarnation: int
    partition: int
    log_offset: int
    event_index: int


class BatchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A billed batch as the ledger keeps it: all that its rows need beside the log.

    `duplicates` and `dead_letters` are positions (blocks.position); `billed` is micros; `last_record_hash`
    tells the log that was billed from another one (None in records of old); `size` is what its records take
    in the log, in bytes (0 in records of old).
    """

    partition: int
    incarnation: int
    first_offset: int
    next_offset: int
    epoch: int
    event_rows: int
    billed: int
    duplicates: list[int]
    dead_letters: list[int]
    openings: dict[str, Opening]
    last_record_hash: bytes | None = None
    size: int = 0


class Charged(msgspec.Struct, frozen=True, gc=False):
    """An event that was counted, its position (blocks.position), and what of its cost was billed, in micros.

    All that a row has follows from it, and from its partition and incarnation.
    """

    position: int
    billed: int
    overdelivery: int
    event: TrackingEvent


class Lines(msgspec.Struct, frozen=True, gc=False):
    """Rows as ClickHouse is sent them, a line each, and what a block of them is judged by. `months` (YYYYMM)
    are those in which they were received.

    Rows wait like this: a line takes half of what a decoded event does.
    """

    content: bytes = b""
    count: int = 0
    billed: int = 0
    position_hash: int = 0
    months: frozenset[int] = frozenset()


def charged_of(batch: Batch, record: BatchRecord) -> list[Charged]:
    """What becomes rows of a billed batch: the same, whoever computes it and whenever."""
    duplicates = set(record.duplicates)
    remaining = {campaign_id: Remaining(opening) for campaign_id, opening in record.openings.items()}
    charged: list[Charged] = []
    for at, event in zip(batch.positions, batch.events, strict=True):
        if at in duplicates:
            continue
        left = remaining.get(event.campaign_id)
        if left is not None:
            billed, overdelivery = left.charge(event)
        else:
            billed, overdelivery = (event.cost, 0) if event.billable else (0, 0)
        charged.append(Charged(at, billed, overdelivery, event))
    return charged


def rows_of(batch: Batch, record: BatchRecord) -> list[EventRow]:
    """The rows of a billed batch, as ClickHouse is to have them."""
    return [_row(charged, batch.partition, batch.incarnation) for charged in charged_of(batch, record)]


def lines_of(partition: int, rows: Sequence[Charged]) -> Lines:
    """Each event's line as in the log, with where it stands and what was billed before its own fields.

    ClickHouse makes the row of it (insert_blocks.sql): half as much work as making the rows here.
    """
    parts = [rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE)]
    return Lines(
        b"".join([_content(partition, part) for part in parts]),
        len(rows),
        sum([row.billed for row in rows]),
        position_hash([row.position for row in rows]),
        frozenset(map(_month, {row.event.received_at // _DAY_MS for row in rows})),
    )


def _content(partition: int, rows: Sequence[Charged]) -> bytes:
    lines = encode_events([row.event for row in rows]).split(b"\n")
    with_place = b'{"partition":%d,"position":%%d,"billed":%%d,"overdelivery":%%d,%%b\n' % partition
    return b"".join(
        [
            with_place % (row.position, row.billed, row.overdelivery, line[1:])
            for row, line in zip(rows, lines, strict=False)  # behind the last line nothing follows
        ]
    )


def joined(parts: Sequence[Lines]) -> Lines:
    """All of them, in this order."""
    return Lines(
        b"".join([each.content for each in parts]),
        sum(each.count for each in parts),
        sum(each.billed for each in parts),
        hash_of_all(each.position_hash for each in parts),
        frozenset[int]().union(*(each.months for each in parts)),
    )


def filled(block: Block, lines: Lines) -> Block:
    """The block with the figures of these rows."""
    return msgspec.structs.replace(
        block, event_rows=lines.count, billed=lines.billed, position_hash=lines.position_hash
    )


def _month(day: int) -> int:
    """Of a day since 1970."""
    at = datetime.fromtimestamp(day * _DAY_MS / 1000, UTC)
    return at.year * 100 + at.month


def _row(charged: Charged, partition: int, incarnation: int) -> EventRow:
    event, at = charged.event, charged.position
    billed, overdelivery = charged.billed, charged.overdelivery
    return EventRow(
        event.organization_id,
        event.campaign_id,
        event.event_id,
        event.type,
        event.occurred_at,
        event.received_at,
        event.channel,
        event.placement,
        event.variant,
        event.country,
        event.visitor_id,
        event.customer_id,
        event.click_id,
        event.url,
        event.referrer,
        event.user_agent,
        str(event.data, "utf-8"),
        event.currency,
        event.budget_version,
        event.billable,
        event.reason or "",
        event.reason is Unbilled.BOT,
        billed + overdelivery,
        billed,
        overdelivery,
        event.revenue,
        event.revenue_verified,
        incarnation,
        partition,
        at >> INDEX_BITS,
        at & ((1 << INDEX_BITS) - 1),
    )
