"""The rows that ClickHouse gets."""

import msgspec


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
