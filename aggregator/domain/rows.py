"""The rows that ClickHouse gets: a pure function of the log and of what the ledger keeps of a batch."""

from collections.abc import Sequence

import msgspec

from aggregator.domain.batch import Batch
from aggregator.domain.billing import Opening, Remaining
from aggregator.domain.blocks import Block, position, position_hash
from schemas.events import INDEX_BITS, TrackingEvent
from schemas.reasons import Unbilled


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
    tells the log that was billed from another one (None in records of old).
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


def rows_of(batch: Batch, record: BatchRecord) -> list[EventRow]:
    """The rows of a billed batch: the same, whoever computes them and whenever."""
    duplicates = set(record.duplicates)
    remaining = {campaign_id: Remaining(opening) for campaign_id, opening in record.openings.items()}
    rows: list[EventRow] = []
    for at, event in zip(batch.positions, batch.events, strict=True):
        if at in duplicates:
            continue
        left = remaining.get(event.campaign_id)
        if left is not None:
            billed, overdelivery = left.charge(event)
        else:
            billed, overdelivery = (event.cost, 0) if event.billable else (0, 0)
        rows.append(_row(event, at, batch.partition, batch.incarnation, billed, overdelivery))
    return rows


def filled(block: Block, rows: Sequence[EventRow]) -> Block:
    """The block with the figures of these rows."""
    return msgspec.structs.replace(
        block,
        event_rows=len(rows),
        billed=sum(row.billed for row in rows),
        position_hash=position_hash(position(row.log_offset, row.event_index) for row in rows),
    )


def _row(
    event: TrackingEvent, at: int, partition: int, incarnation: int, billed: int, overdelivery: int
) -> EventRow:
    return EventRow(
        organization_id=event.organization_id,
        campaign_id=event.campaign_id,
        event_id=event.event_id,
        type=event.type,
        occurred_at=event.occurred_at,
        received_at=event.received_at,
        channel=event.channel,
        placement=event.placement,
        variant=event.variant,
        country=event.country,
        visitor_id=event.visitor_id,
        customer_id=event.customer_id,
        click_id=event.click_id,
        url=event.url,
        referrer=event.referrer,
        user_agent=event.user_agent,
        data=bytes(event.data).decode(),
        currency=event.currency,
        budget_version=event.budget_version,
        billable=event.billable,
        reason=event.reason or "",
        bot=event.reason is Unbilled.BOT,
        cost=billed + overdelivery,
        billed=billed,
        overdelivery=overdelivery,
        revenue=event.revenue,
        revenue_verified=event.revenue_verified,
        incarnation=incarnation,
        partition=partition,
        log_offset=at >> INDEX_BITS,
        event_index=at & ((1 << INDEX_BITS) - 1),
    )
