"""Budget versions, thresholds and when a budget needs approval. All comparisons are in whole micros."""

import msgspec

from control_api.domain.account import Account
from control_api.domain.campaign import Campaign, PendingBudget, effective_budget
from control_api.domain.organization import Organization
from schemas.money import Micros, to_micros
from schemas.reasons import CampaignStatus, StatusReason, Threshold

_FINAL = {
    Threshold.BUDGET_100: StatusReason.BUDGET_100,
    Threshold.MAX_IMPRESSIONS: StatusReason.MAX_IMPRESSIONS,
}


def reached(
    *, billed: int, budget: int | None, billable_impressions: int, max_impressions: int | None
) -> frozenset[Threshold]:
    """The thresholds that spend stands at or above, in whole micros: billed * 10 >= budget * 9."""
    thresholds = set()
    if budget is not None and billed * 10 >= budget * 9:
        thresholds.add(Threshold.BUDGET_90)
    if budget is not None and billed >= budget:
        thresholds.add(Threshold.BUDGET_100)
    if max_impressions is not None and billable_impressions >= max_impressions:
        thresholds.add(Threshold.MAX_IMPRESSIONS)
    return frozenset(thresholds)


def needs_approval(effective: Micros | None, organization: Organization, currency: str) -> bool:
    """Whether a budget is above the approval threshold; no budget at all is above any that is set."""
    threshold = organization.limits_in(currency).approval_threshold
    if threshold is None:
        return False
    return effective is None or effective > to_micros(threshold)


def is_approval_missing(campaign: Campaign, organization: Organization) -> bool:
    """Whether the budget needs an approval that this version of it does not have."""
    needed = needs_approval(campaign.effective_budget, organization, campaign.currency)
    return needed and campaign.approved_budget_version != campaign.budget_version


def final_reason(crossed: frozenset[Threshold]) -> StatusReason | None:
    """The reason for which a campaign that crossed these is COMPLETED, if it is."""
    return next((reason for threshold, reason in _FINAL.items() if threshold in crossed), None)


def unacknowledged(campaign: Campaign, crossed: frozenset[Threshold]) -> bool:
    """Whether 90 % of this budget version is crossed and nobody has accepted it."""
    return Threshold.BUDGET_90 in crossed and campaign.acknowledged_threshold == 0


def keep_budget(wanted: Campaign, current: Campaign) -> Campaign:
    """`wanted` with the current budget; the wanted one waits for approval."""
    return msgspec.structs.replace(
        wanted,
        budget=current.budget,
        settings=msgspec.structs.replace(wanted.settings, budget_limit=current.settings.budget_limit),
        pending_budget=PendingBudget(wanted.budget, wanted.budget_limit),
    )


def with_budget_version(
    campaign: Campaign, previous: Campaign, account: Account
) -> tuple[Campaign, frozenset[Threshold]]:
    """The campaign under its new budget version, if what it may spend differs from before.

    Also returns the thresholds that the new version stands above from its first moment: the transaction that
    makes the version records them as crossed.
    """
    same = (
        campaign.effective_budget == previous.effective_budget
        and campaign.max_impressions == previous.max_impressions
        and campaign.currency == previous.currency
    )
    if same:
        return campaign, frozenset()
    crossed = reached(
        billed=account.billed,
        budget=campaign.effective_budget,
        billable_impressions=account.billable_impressions,
        max_impressions=campaign.max_impressions,
    )
    versioned = msgspec.structs.replace(
        campaign, budget_version=previous.budget_version + 1, acknowledged_threshold=0
    )
    return versioned, crossed


def pending_amount(pending: PendingBudget) -> Micros | None:
    """What a pending budget would allow."""
    return effective_budget(pending.budget, pending.budget_limit)


def may_cross(status: CampaignStatus) -> bool:
    """Whether crossings change this status at all."""
    return status in (CampaignStatus.ACTIVE, CampaignStatus.PAUSED)
