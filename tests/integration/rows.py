"""Event rows for tests of ClickHouse."""

import time
import uuid
from typing import Any

import msgspec

from aggregator.domain.blocks import position
from aggregator.domain.rows import Charged, EventRow
from schemas.events import NO_DATA, TrackingEvent
from schemas.reasons import EventType, Unbilled

NOW = int(time.time() * 1000)
"""Rows older than the table's TTL would vanish, so tests count from now."""

_PLAIN = EventRow(
    organization_id="018f0000-0000-7000-8000-000000000001",
    campaign_id="018f0000-0000-7000-8000-0000000000c1",
    event_id="",
    type="IMPRESSION",
    occurred_at=NOW,
    received_at=NOW,
    channel="WEB",
    placement="hero",
    variant="a",
    country="DE",
    visitor_id="v-1",
    customer_id="",
    click_id="",
    url="https://shop.example/",
    referrer="",
    user_agent="Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36",
    data="",
    currency="EUR",
    budget_version=1,
    billable=True,
    reason="",
    bot=False,
    cost=0,
    billed=0,
    overdelivery=0,
    revenue=0,
    revenue_verified=False,
    incarnation=0,
    partition=0,
    log_offset=0,
    event_index=0,
)


def row(partition: int, log_offset: int, event_index: int, **fields: Any) -> EventRow:
    """A plain impression at these coordinates, with some fields of its own."""
    fields.setdefault("event_id", str(uuid.uuid4()))
    return msgspec.structs.replace(
        _PLAIN, partition=partition, log_offset=log_offset, event_index=event_index, **fields
    )


def charged(row: EventRow) -> Charged:
    """The event of which this row is made, with what was billed of it."""
    event = TrackingEvent(
        event_id=row.event_id,
        organization_id=row.organization_id,
        campaign_id=row.campaign_id,
        type=EventType(row.type),
        received_at=row.received_at,
        occurred_at=row.occurred_at,
        currency=row.currency,
        budget_version=row.budget_version,
        billable=row.billable,
        cost=row.cost,
        reason=Unbilled(row.reason) if row.reason else None,
        visitor_id=row.visitor_id,
        customer_id=row.customer_id,
        click_id=row.click_id,
        variant=row.variant,
        channel=row.channel,
        placement=row.placement,
        country=row.country,
        url=row.url,
        referrer=row.referrer,
        user_agent=row.user_agent,
        revenue=row.revenue,
        revenue_verified=row.revenue_verified,
        data=msgspec.Raw(row.data.encode()) if row.data else NO_DATA,
    )
    assert row.bot == (row.reason == Unbilled.BOT)
    assert row.cost == row.billed + row.overdelivery
    return Charged(position(row.log_offset, row.event_index), row.billed, row.overdelivery, event)
