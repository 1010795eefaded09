"""The state machine of a campaign: who may go where, and what changes on the way."""

from datetime import datetime
from enum import StrEnum

import msgspec

from control_api.domain.account import Account
from control_api.domain.budget import final_reason, is_approval_missing, may_cross, unacknowledged
from control_api.domain.campaign import Campaign
from control_api.domain.organization import Organization
from control_api.domain.refusals import (
    ApprovalRequired,
    BudgetNotAcknowledged,
    BudgetSpent,
    DatePassed,
    HasEvents,
    NotInThisStatus,
    NotPossible,
)
from schemas.reasons import CampaignStatus, PricingModel, StatusReason, Threshold

_ACKNOWLEDGED = 90
_WRONG_STATUS = "{} is not possible while a campaign is {}"


class Act(StrEnum):
    """What a marketer can do to a campaign's status."""

    ACTIVATE = "activate"
    PAUSE = "pause"
    STOP = "stop"


ALLOWED: dict[CampaignStatus, tuple[Act, ...]] = {
    CampaignStatus.DRAFT: (Act.ACTIVATE, Act.STOP),
    CampaignStatus.ACTIVE: (Act.PAUSE, Act.STOP),
    CampaignStatus.PAUSED: (Act.ACTIVATE, Act.STOP),
    CampaignStatus.COMPLETED: (Act.STOP,),
    CampaignStatus.CANCELLED: (),
}
SCHEDULED = "SCHEDULED"


def require(campaign: Campaign, act: Act) -> None:
    """Raises NotInThisStatus unless the act leads out of the campaign's status."""
    if act not in ALLOWED[campaign.status]:
        raise refusal(NotInThisStatus, campaign, _WRONG_STATUS.format(act, campaign.status))


def activate(
    campaign: Campaign,
    account: Account,
    organization: Organization,
    *,
    now: datetime,
    start_now: bool = False,
    acknowledge_budget: bool = False,
) -> Campaign:
    """DRAFT or PAUSED to ACTIVE. `account.crossed` must hold the crossings of the current budget version."""
    require(campaign, Act.ACTIVATE)
    if campaign.end_date is not None and campaign.end_date <= now:
        raise refusal(DatePassed, campaign, "the endDate has passed")
    start = now if start_now and _has_not_run(campaign, now) else campaign.start_date
    if campaign.status is CampaignStatus.DRAFT:
        if start < now:
            raise refusal(DatePassed, campaign, "the startDate has passed: change it, or use startNow")
        if is_approval_missing(campaign, organization):
            raise refusal(
                ApprovalRequired, campaign, "the budget is above the organization's approval threshold"
            )
    if final_reason(account.crossed):
        raise refusal(BudgetSpent, campaign, "the budget or the impressions of this version are used up")
    if unacknowledged(campaign, account.crossed) and not acknowledge_budget:
        raise refusal(
            BudgetNotAcknowledged,
            campaign,
            "90 % of the budget is billed: raise it, or use acknowledgeBudget",
        )
    acknowledged = _ACKNOWLEDGED if Threshold.BUDGET_90 in account.crossed else 0
    return msgspec.structs.replace(
        campaign,
        status=CampaignStatus.ACTIVE,
        status_reason=None,
        start_date=start,
        acknowledged_threshold=acknowledged,
        closed_since=None,
    )


def pause(campaign: Campaign, *, now: datetime) -> Campaign:
    """ACTIVE to PAUSED by hand."""
    require(campaign, Act.PAUSE)
    return _closed(campaign, CampaignStatus.PAUSED, None, now)


def stop(campaign: Campaign, *, now: datetime) -> Campaign:
    """To CANCELLED, from anywhere but CANCELLED."""
    require(campaign, Act.STOP)
    return _closed(campaign, CampaignStatus.CANCELLED, None, now)


def apply_crossings(campaign: Campaign, crossed: frozenset[Threshold], *, at: datetime) -> Campaign:
    """What crossings of the campaign's own budget version make of it: the same object when nothing changes.

    `at` is the receivedAt of the event that crossed, since the door closed then.
    """
    if not may_cross(campaign.status):
        return campaign
    if reason := final_reason(crossed):
        return _closed(campaign, CampaignStatus.COMPLETED, reason, at)
    if campaign.status is CampaignStatus.ACTIVE and unacknowledged(campaign, crossed):
        return _closed(campaign, CampaignStatus.PAUSED, StatusReason.BUDGET_90, at)
    return campaign


def complete_if_due(campaign: Campaign, *, now: datetime) -> Campaign:
    """ACTIVE or PAUSED to COMPLETED once endDate is reached: the same object when it is not."""
    if not may_cross(campaign.status) or campaign.end_date is None or campaign.end_date > now:
        return campaign
    return _closed(campaign, CampaignStatus.COMPLETED, StatusReason.END_DATE, campaign.end_date)


def require_deletable(campaign: Campaign, account: Account) -> None:
    """Raises unless the campaign may be deleted: not ACTIVE, and without recorded events."""
    if campaign.status is CampaignStatus.ACTIVE:
        raise refusal(NotInThisStatus, campaign, _WRONG_STATUS.format("delete", campaign.status))
    if account.has_events:
        raise refusal(HasEvents, campaign, "events were recorded for this campaign: stop it instead")


def effective_status(campaign: Campaign, now: datetime) -> str:
    """The status as a marketer sees it: an ACTIVE campaign before its startDate is SCHEDULED."""
    if campaign.status is CampaignStatus.ACTIVE and now < campaign.start_date:
        return SCHEDULED
    return campaign.status


def warnings(campaign: Campaign) -> tuple[str, ...]:
    """What a marketer should know of an activation that is allowed all the same."""
    pricing = campaign.pricing
    free = pricing.model is not PricingModel.EVENT and not (pricing.price and pricing.price.amount)
    if free and campaign.effective_budget is not None:
        return ("The price is 0, so nothing will be billed and the budget is never used.",)
    return ()


def refusal(kind: type[NotPossible], campaign: Campaign, sentence: str) -> NotPossible:
    """Why a step is not possible, with the campaign's status and the ways out of it."""
    return kind(sentence, campaign.status, ALLOWED[campaign.status])


def _has_not_run(campaign: Campaign, now: datetime) -> bool:
    return campaign.status is CampaignStatus.DRAFT or now < campaign.start_date


def _closed(
    campaign: Campaign, status: CampaignStatus, reason: StatusReason | None, at: datetime
) -> Campaign:
    """Out of running, if it was: what is closed already keeps the moment at which it closed. Once it cannot
    run again, no budget waits for approval any more."""
    ran = campaign.status is CampaignStatus.ACTIVE and at >= campaign.start_date
    return msgspec.structs.replace(
        campaign,
        status=status,
        status_reason=reason,
        closed_since=at if ran else campaign.closed_since,
        pending_budget=campaign.pending_budget if may_cross(status) else None,
    )
