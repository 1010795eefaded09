"""`campaign-events`: what happened to campaigns, as CloudEvents 1.0 (structured JSON), by campaign id."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec

TOPIC = "campaign-events"
SPEC_VERSION = "1.0"


class DomainEventType(StrEnum):
    """The `type` of a CloudEvent of Flightline."""

    CREATED = "flightline.campaign.created"
    UPDATED = "flightline.campaign.updated"
    ACTIVATED = "flightline.campaign.activated"
    PAUSED = "flightline.campaign.paused"
    COMPLETED = "flightline.campaign.completed"
    CANCELLED = "flightline.campaign.cancelled"
    DELETED = "flightline.campaign.deleted"
    BUDGET_THRESHOLD_CROSSED = "flightline.campaign.budget-threshold-crossed"
    APPROVAL_REQUESTED = "flightline.campaign.approval-requested"
    APPROVAL_APPROVED = "flightline.campaign.approval-approved"
    APPROVAL_REJECTED = "flightline.campaign.approval-rejected"
    APPROVAL_WITHDRAWN = "flightline.campaign.approval-withdrawn"
    PERFORMANCE_ALERT = "flightline.campaign.performance-alert"


class DomainEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A CloudEvent; `subject` is the campaign's id, `time` is RFC 3339 in UTC."""

    id: str
    source: str
    type: DomainEventType
    subject: str
    time: str
    organization: str
    specversion: str = SPEC_VERSION
    datacontenttype: str = "application/json"
    correlationid: str | None = None
    traceparent: str | None = None
    data: dict[str, Any]


def time_of(at: datetime) -> str:
    """The `time` of an event: RFC 3339 in UTC, to the millisecond."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
