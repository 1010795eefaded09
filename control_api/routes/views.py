"""What the API shows (specification: Campaign Response)."""

from datetime import datetime
from decimal import Decimal

import msgspec
from msgspec import UNSET, UnsetType

from control_api.domain import lifecycle
from control_api.domain.account import Account
from control_api.domain.budget import pending_amount
from control_api.domain.campaign import Campaign, CampaignType, Settings
from control_api.domain.metrics import Metrics, metrics_of
from control_api.domain.organization import Limits, Organization
from schemas.money import Money, from_micros
from schemas.reasons import CampaignStatus, StatusReason

PUBLISHED, PENDING = "published", "pending"


class PendingMoney(msgspec.Struct, frozen=True):
    """A budget that waits for approval; an amount of null is a campaign without any budget."""

    amount: Decimal | None
    currency: str


class CampaignView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A campaign. `effectiveStatus` is SCHEDULED before its startDate; `propagation` stands in answers to
    transitions and says whether the doors' snapshot is published yet."""

    id: str
    name: str
    description: str
    status: CampaignStatus
    effective_status: str
    status_reason: StatusReason | None
    type: CampaignType
    targeting_rules: tuple[str, ...]
    start_date: datetime
    end_date: datetime | None
    currency: str
    budget: Money | None
    pending_budget: PendingMoney | None
    budget_version: int
    acknowledged_threshold: int
    created_by: str
    created_at: datetime
    updated_by: str
    updated_at: datetime
    settings: Settings
    metrics: Metrics | UnsetType = UNSET
    warnings: tuple[str, ...] = ()
    version: int
    propagation: str | UnsetType = UNSET


class PageView(msgspec.Struct, frozen=True, rename="camel"):
    """One page of a list; `nextCursor` is null on the last one."""

    items: list[CampaignView]
    next_cursor: str | None


class OrganizationView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The caller's organization; `limits` by currency."""

    id: str
    name: str
    time_zone: str
    default_currency: str
    limits: dict[str, Limits]
    created_at: datetime
    updated_at: datetime
    version: int


def campaign_view(
    campaign: Campaign,
    account: Account | None,
    now: datetime,
    *,
    warnings: tuple[str, ...] = (),
    published: bool | None = None,
) -> CampaignView:
    """A campaign as shown at `now`; with its metrics when there is an account."""
    pending = campaign.pending_budget
    shown = None
    if pending is not None:
        micros = pending_amount(pending)
        amount = None if micros is None else from_micros(micros, campaign.currency, budget=True).amount
        shown = PendingMoney(amount, campaign.currency)
    return CampaignView(
        id=campaign.id,
        name=campaign.name,
        description=campaign.description,
        status=campaign.status,
        effective_status=lifecycle.effective_status(campaign, now),
        status_reason=campaign.status_reason,
        type=campaign.type,
        targeting_rules=campaign.targeting_rules,
        start_date=campaign.start_date,
        end_date=campaign.end_date,
        currency=campaign.currency,
        budget=campaign.budget,
        pending_budget=shown,
        budget_version=campaign.budget_version,
        acknowledged_threshold=campaign.acknowledged_threshold,
        created_by=campaign.created_by,
        created_at=campaign.created_at,
        updated_by=campaign.updated_by,
        updated_at=campaign.updated_at,
        settings=campaign.settings,
        metrics=metrics_of(account) if account else UNSET,
        warnings=warnings,
        version=campaign.version,
        propagation=UNSET if published is None else PUBLISHED if published else PENDING,
    )


def organization_view(organization: Organization) -> OrganizationView:
    """An organization."""
    return OrganizationView(
        **{name: getattr(organization, name) for name in OrganizationView.__struct_fields__}
    )
