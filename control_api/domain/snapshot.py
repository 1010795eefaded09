"""What leaves the service when a campaign changes: the doors' snapshot and the domain event."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from control_api.domain.campaign import Campaign
from schemas.campaign_state import Attribution, CampaignState, FrequencyCap, Pricing
from schemas.domain_events import DomainEvent, DomainEventType, time_of
from schemas.ids import new_id
from schemas.money import to_micros

SOURCE = "/flightline/control-api"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Cause(msgspec.Struct, frozen=True):
    """Who or what changed something: a user's id, `key:ID` or a part of the system, why, and the request's id
    and trace. `address` is a keyed hash of where from."""

    actor: str
    correlation_id: str | None = None
    justification: str | None = None
    address: str | None = None
    traceparent: str | None = None


def millis(moment: datetime) -> int:
    """Epoch milliseconds, exactly."""
    return (moment - _EPOCH) // _MILLISECOND


def state_of(campaign: Campaign) -> CampaignState:
    """The snapshot of a campaign that a door decides by."""
    settings, pricing = campaign.settings, campaign.pricing
    attribution, cap = settings.attribution or None, settings.frequency_cap or None
    return CampaignState(
        campaign_id=campaign.id,
        version=campaign.version,
        organization_id=campaign.organization_id,
        status=campaign.status,
        status_reason=campaign.status_reason,
        gone=campaign.deleted_at is not None,
        starts_at=millis(campaign.start_date),
        ends_at=millis(campaign.end_date) if campaign.end_date else None,
        pricing=Pricing(pricing.model, to_micros(pricing.price.amount) if pricing.price else 0),
        currency=campaign.currency,
        budget=campaign.effective_budget,
        budget_version=campaign.budget_version,
        acknowledged_threshold=campaign.acknowledged_threshold,
        max_impressions=campaign.max_impressions,
        attribution=Attribution(attribution.click_hours, attribution.conversion_days)
        if attribution
        else Attribution(),
        frequency_cap=FrequencyCap(cap.impressions, cap.per_hours) if cap else None,
        landing_hosts=settings.landing_hosts,
        closed_since=millis(campaign.closed_since) if campaign.closed_since else None,
    )


def event_of(
    kind: DomainEventType, campaign: Campaign, cause: Cause, at: datetime, data: dict[str, Any] | None = None
) -> DomainEvent:
    """The CloudEvent of a change; `data` is added to what every event of a campaign says."""
    told = {
        "name": campaign.name,
        "status": campaign.status,
        "statusReason": campaign.status_reason,
        "version": campaign.version,
        "budgetVersion": campaign.budget_version,
        "actor": cause.actor,
    }
    if cause.justification is not None:
        told["justification"] = cause.justification
    return DomainEvent(
        id=new_id(),
        source=SOURCE,
        type=kind,
        subject=campaign.id,
        time=time_of(at),
        organization=campaign.organization_id,
        correlationid=cause.correlation_id,
        traceparent=cause.traceparent,
        data=told | (data or {}),
    )
