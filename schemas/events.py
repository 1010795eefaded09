"""The record of `tracking-events`: one line of JSON an event, up to 500 lines a record.

The door decides and stamps everything that depends on the moment (`receivedAt`, `cost`, `billable`, …), so
that whoever reads the log again decides the same.
"""

from collections.abc import Iterable
from typing import Annotated

import msgspec

from schemas.money import MAX_COST_MICROS, MAX_REVENUE_MICROS
from schemas.reasons import EventType, Unbilled

SCHEMA_HEADER = "schema"
SCHEMA_NAME = "flightline.tracking-event.v1"
MAX_EVENTS_PER_RECORD = 500
"""An event's place in its record (`index`) is below this; `partition, offset, index` is its coordinate."""

INDEX_BITS = 10
"""offset << INDEX_BITS | index orders the events of a partition; 2¹⁰ leaves room above 500."""


MAX_TIME_MS = 253_402_300_799_999
"""The end of the year 9999: what every engine can hold."""

NO_DATA = msgspec.Raw(b"")
"""`omit_defaults` knows a Raw by identity: another empty one would be written as `"data":,`, no JSON."""

Millis = Annotated[int, msgspec.Meta(ge=0, le=MAX_TIME_MS)]
CostMicros = Annotated[int, msgspec.Meta(ge=0, le=MAX_COST_MICROS)]
RevenueMicros = Annotated[int, msgspec.Meta(ge=0, le=MAX_REVENUE_MICROS)]
BudgetVersion = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]


class TrackingEvent(
    msgspec.Struct, frozen=True, gc=False, omit_defaults=True, rename="camel", forbid_unknown_fields=False
):
    """An event as the door stamped it.

    Times are epoch milliseconds, money is integer micros of `currency`. `cost` is what the event is to be
    billed while budget remains: 0 unless `billable` and its type is what the campaign pays for. With `flat`
    the cost is the campaign's flat fee, to be billed with the first such event only. `reason` says why an
    event is not billable.
    """

    event_id: Id
    organization_id: str
    campaign_id: str
    type: EventType
    received_at: Millis
    occurred_at: Millis
    currency: str
    budget_version: BudgetVersion
    billable: bool = True
    cost: CostMicros = 0
    flat: bool = False
    reason: Unbilled | None = None
    visitor_id: str = ""
    customer_id: str = ""
    click_id: str = ""
    variant: str = ""
    channel: str = ""
    placement: str = ""
    country: str = ""
    url: str = ""
    referrer: str = ""
    user_agent: str = ""
    revenue: RevenueMicros = 0
    revenue_verified: bool = False
    data: msgspec.Raw = NO_DATA


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(TrackingEvent)
RECORD_HEADERS: list[tuple[str, bytes]] = [(SCHEMA_HEADER, SCHEMA_NAME.encode())]


def encode_events(events: Iterable[TrackingEvent]) -> bytes:
    """The value of one record: JSONEachRow, a line each, in order."""
    return _encoder.encode_lines(events)


def decode_events(value: bytes) -> list[TrackingEvent]:
    """The events of one record. Raises msgspec.MsgspecError when any line is not a tracking event."""
    return _decoder.decode_lines(value)


def decode_event(line: bytes) -> TrackingEvent:
    """One line of a record. Raises msgspec.MsgspecError when it is not a tracking event."""
    return _decoder.decode(line)
