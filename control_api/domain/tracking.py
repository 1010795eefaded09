"""An event that is tracked through this API: the door's event without its campaign, which the path names."""

import hashlib
import hmac
from decimal import Decimal
from typing import Annotated, Any

import msgspec

from control_api.domain.campaign import Moment
from control_api.domain.keys import PREFIXES
from schemas.access_keys import KeyKind
from schemas.ids import new_id
from schemas.patterns import END
from schemas.reasons import Channel, EventType

MAX_TEXT = 512
_Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)] | None
_Url = Annotated[str, msgspec.Meta(max_length=2_048)] | None


class EventAmount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Money of an event, in the campaign's currency when it names none."""

    amount: Decimal
    currency: str | None = None


class TrackedEvent(
    msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """The body of track. Only `type` is required; null is the same as absent."""

    type: EventType
    event_id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT)] | None = None
    occurred_at: Moment | None = None
    sent_at: Moment | None = None
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
    revenue: EventAmount | None = None
    cost: EventAmount | None = None
    data: dict[str, Any] | None = None


class RelayedEvent(TrackedEvent, frozen=True, kw_only=True):
    """The same as the door takes it."""

    campaign_id: str


def relayed(event: TrackedEvent, campaign_id: str, event_id: str) -> RelayedEvent:
    """The event for the door: with its campaign and an id of its own. The user agent is the visitor's as the
    event names it: the request's is that of whoever's back end sent it."""
    fields = {name: getattr(event, name) for name in TrackedEvent.__struct_fields__}
    fields["event_id"] = event.event_id or event_id
    return RelayedEvent(**fields, campaign_id=campaign_id)


def event_id_of(organization_id: str, actor: str, campaign_id: str, idempotency_key: str | None) -> str:
    """The id of an event that has none: always the same for the same Idempotency-Key, so that a repeat counts
    once."""
    if idempotency_key is None:
        return new_id()
    told = "\n".join((organization_id, actor, campaign_id, idempotency_key))
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def internal_key(secret: str, organization_id: str) -> str:
    """The text of the key with which this API speaks to the doors for an organization.

    It follows from the service's secret, so every replica knows it and it stands in no database.
    """
    digest = hmac.digest(secret.encode(), f"internal key {organization_id}".encode(), "sha256")
    return PREFIXES[KeyKind.SERVER] + digest.hex()
