"""Event rows for tests of ClickHouse."""

import time
import uuid
from typing import Any

import msgspec

from aggregator.domain.rows import EventRow

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
