"""Values that the door's unit tests start from."""

from typing import Any

import msgspec

from ingest.domain.incoming import IncomingEvent
from ingest.domain.validate import Sender
from schemas.access_keys import AccessKey, KeyKind
from schemas.budget_gates import BudgetGate, Coordinates
from schemas.campaign_state import CampaignState, Pricing
from schemas.reasons import CampaignStatus, PricingModel, Scope, Threshold

NOW = 1_795_000_000_000
HOUR = 3_600_000
DAY = 24 * HOUR
CAMPAIGN = "01890000-0000-7000-8000-000000000001"
ORGANIZATION = "01890000-0000-7000-8000-0000000000aa"
BROWSER = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36"
)


def campaign(**changes: Any) -> CampaignState:
    """A running CPM campaign in EUR, unless changed."""
    fields = {
        "campaign_id": CAMPAIGN,
        "version": 1,
        "organization_id": ORGANIZATION,
        "status": CampaignStatus.ACTIVE,
        "starts_at": NOW - 60 * DAY,
        "ends_at": NOW + 60 * DAY,
        "pricing": Pricing(PricingModel.CPM, 2_500_000),
        "currency": "EUR",
        "budget_version": 3,
    }
    return CampaignState(**{**fields, **changes})


def gate(*thresholds: Threshold, budget_version: int = 3, at: int = NOW - HOUR) -> BudgetGate:
    return BudgetGate(
        campaign_id=CAMPAIGN,
        organization_id=ORGANIZATION,
        version=1,
        budget_version=budget_version,
        thresholds=thresholds,
        billed=1,
        at=at,
        cause=Coordinates(1, 0, 0, 0),
    )


def key(*scopes: Scope, kind: KeyKind = KeyKind.PUBLISHABLE) -> AccessKey:
    return AccessKey(
        key_hash="h",
        version=1,
        key_id="k",
        organization_id=ORGANIZATION,
        kind=kind,
        scopes=scopes or (Scope.WRITE,),
    )


def browser(**changes: Any) -> Sender:
    return Sender(**{"key": key(), "user_agent": BROWSER, **changes})


def server(*scopes: Scope, **changes: Any) -> Sender:
    return Sender(**{"key": key(Scope.WRITE, *scopes, kind=KeyKind.SERVER), **changes})


def event(**fields: Any) -> IncomingEvent:
    """An impression of the campaign with these fields, as decoded from JSON."""
    sent = {"campaignId": CAMPAIGN, "type": "IMPRESSION", **fields}
    return msgspec.json.decode(msgspec.json.encode(sent), type=IncomingEvent)
