"""An event as a client sends it, and its limits."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated

import msgspec

from schemas.patterns import END
from schemas.reasons import Channel, EventType, Rejected

MAX_BODY_BYTES = 1024 * 1024
"""Of a request, compressed as well as decompressed."""
MAX_EVENTS = 1_000
MAX_EVENT_BYTES = 16 * 1024
MAX_DATA_BYTES = 4 * 1024
MAX_DATA_DEPTH = 32
"""Readers of the log parse `data` with a stack of their own: what is nested deeper could break one."""
MAX_TEXT = 512
MAX_URL = 2_048

_Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)] | None
_Url = Annotated[str, msgspec.Meta(max_length=MAX_URL)] | None
_Moment = Annotated[datetime, msgspec.Meta(tz=True)] | None


class Amount(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Money in an event: a decimal number or its text, in the campaign's currency when it names none."""

    amount: Decimal
    currency: str | None = None


class IncomingEvent(
    msgspec.Struct, frozen=True, gc=False, rename="camel", forbid_unknown_fields=True, kw_only=True
):
    """One event of `POST /v1/events`; null is the same as absent. An unknown field makes it malformed."""

    campaign_id: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
    type: EventType
    event_id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT)] | None = None
    occurred_at: _Moment = None
    sent_at: _Moment = None
    visitor_id: _Text = None
    customer_id: _Text = None
    click_id: _Text = None
    variant: _Text = None
    channel: Channel | None = None
    placement: _Text = None
    country: Annotated[str, msgspec.Meta(pattern="^[A-Za-z]{2}" + END)] | None = None
    url: _Url = None
    referrer: _Url = None
    user_agent: _Text = None
    revenue: Amount | None = None
    cost: Amount | None = None
    data: msgspec.Raw = msgspec.Raw(b"")


class Refused(msgspec.Struct, frozen=True, gc=False):
    """An event that is not stored, and why; `sample` is the beginning of what was sent."""

    reason: Rejected
    detail: str
    event_id: str | None = None
    sample: bytes = b""
