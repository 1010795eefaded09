"""Webhooks: what a client asks for, what is kept, and which events a subscriber wants."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET

from control_api.domain.addresses import is_public
from control_api.domain.refusals import FieldError
from schemas.domain_events import DomainEventType

MOST = 50
"""Webhooks of an organization."""

TEST = "flightline.webhook.test"
"""The type of an event that is sent on request; it is in no topic."""

GONE = "GONE"
_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_NUMBER = re.compile(r"\d+|0[xX][0-9a-fA-F]*")
_QUAD = re.compile(r"(?:0|[1-9]\d{0,2})(?:\.(?:0|[1-9]\d{0,2})){3}")


class WebhookRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The body that makes a webhook. Without `eventTypes` it gets all events of the organization."""

    url: Annotated[str, msgspec.Meta(min_length=1, max_length=2_048)]
    event_types: Annotated[tuple[DomainEventType, ...], msgspec.Meta(max_length=50)] = ()
    description: Annotated[str, msgspec.Meta(max_length=1_000)] = ""
    active: bool = True


class WebhookReplacement(WebhookRequest, frozen=True, kw_only=True):
    """The body of a PUT: the whole, as GET shows it. What only the service writes is ignored."""

    id: Any = UNSET
    inactive_reason: Any = UNSET
    previous_secret_until: Any = UNSET
    created_by: Any = UNSET
    created_at: Any = UNSET
    updated_by: Any = UNSET
    updated_at: Any = UNSET
    version: Any = UNSET


class Rotation(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The body of rotate-secret: for how long the secret of before signs beside the new one."""

    overlap_hours: Annotated[int, msgspec.Meta(ge=0, le=168)] = 24


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """A subscriber. Secrets are sealed; the previous one signs as well until `previous_until`."""

    id: str
    organization_id: str
    url: str
    event_types: tuple[str, ...] = ()
    description: str = ""
    active: bool = True
    active_since: datetime
    inactive_reason: str | None = None
    secret: bytes
    previous_secret: bytes | None = None
    previous_until: datetime | None = None
    created_by: str
    created_at: datetime
    updated_by: str
    updated_at: datetime
    version: int = 1


class Occurrence(msgspec.Struct, frozen=True):
    """What must be known of an event to deliver it: newer types than ours are delivered as well."""

    id: str
    type: str
    subject: str
    time: str
    organization: str


def wants(webhook: Webhook, event: Occurrence) -> bool:
    """Whether the event is for this subscriber: of its organization and types, since it is active."""
    return (
        event.organization == webhook.organization_id
        and (not webhook.event_types or event.type in webhook.event_types)
        and moment_of(event) >= webhook.active_since
    )


def moment_of(event: Occurrence) -> datetime:
    """When it happened. Raises ValueError."""
    return datetime.fromisoformat(event.time).astimezone(UTC)


def check_url(url: str, *, private: bool) -> Iterator[FieldError]:
    """What is wrong with a URL; `private` allows http and any address.

    A name is looked at when it is resolved, at each delivery. An address must be in its usual form: `0x7f.1`
    and `2130706433` are 127.0.0.1 to some.
    """
    if not _PRINTABLE.fullmatch(url) or "\\" in url:
        yield FieldError("/url", "must be a URL of printable ASCII characters")
        return
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        yield FieldError("/url", "must be a URL such as https://example.com/hooks")
        return
    if parts.scheme != "https" and not (private and parts.scheme == "http"):
        yield FieldError("/url", "must begin with https://")
    elif not host or port == 0:
        yield FieldError("/url", "must be a URL such as https://example.com/hooks")
    elif parts.username is not None or parts.password is not None or "#" in url:
        yield FieldError("/url", "must have neither a user, a password nor a fragment")
    elif not private and not _may_be_public(host):
        yield FieldError("/url", "must not lead into a private network")


def _may_be_public(host: str) -> bool:
    if ":" in host:
        return is_public(host)
    if _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        return _QUAD.fullmatch(host) is not None and is_public(host)
    return True
