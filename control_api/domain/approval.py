"""Approvals: what of a campaign can be approved, and what an approval makes of it."""

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import UNSET

from control_api.domain.account import Account
from control_api.domain.budget import is_approval_missing, pending_amount
from control_api.domain.campaign import Campaign
from control_api.domain.lifecycle import refusal
from control_api.domain.money_rules import BUDGET, Amounts, over_limit
from control_api.domain.organization import Organization
from control_api.domain.refusals import ApprovalNotNeeded, FieldError, FieldsNotChangeable
from schemas.money import Micros
from schemas.reasons import CampaignStatus

Comment = Annotated[str, msgspec.Meta(max_length=1_000)]


class ApprovalState(StrEnum):
    """What became of a request for approval."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"


class Asked(msgspec.Struct, frozen=True):
    """The budget that an approval is about; `budget` in micros, None for none at all.

    `for_pending`: a pendingBudget, which becomes the budget. Else the budget of a DRAFT, in its version.
    """

    budget: Micros | None
    currency: str
    budget_version: int
    for_pending: bool


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """A request for approval, and what was decided."""

    id: str
    organization_id: str
    campaign_id: str
    asked: Asked
    state: ApprovalState = ApprovalState.PENDING
    asked_by: str
    asked_at: datetime
    ask_comment: str | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    decide_comment: str | None = None


def approvable(campaign: Campaign) -> Asked | None:
    """What of the campaign an approval could be about, now."""
    if campaign.deleted_at is not None:
        return None
    version, currency = campaign.budget_version, campaign.currency
    if campaign.status is CampaignStatus.DRAFT:
        return Asked(campaign.effective_budget, currency, version, for_pending=False)
    running = campaign.status in (CampaignStatus.ACTIVE, CampaignStatus.PAUSED)
    if running and campaign.pending_budget is not None:
        return Asked(pending_amount(campaign.pending_budget), currency, version, for_pending=True)
    return None


def to_ask(campaign: Campaign, organization: Organization) -> Asked:
    """What is asked for. Raises ApprovalNotNeeded."""
    asked = approvable(campaign)
    if asked is None or not (asked.for_pending or is_approval_missing(campaign, organization)):
        raise refusal(ApprovalNotNeeded, campaign, "nothing of this campaign waits for approval")
    return asked


def withdrawn_states(before: Campaign, after: Campaign) -> tuple[ApprovalState, ...]:
    """The states from which a change withdraws the campaign's approvals.

    One that was used stays as it is: of a pending budget that became the budget, of a DRAFT that went ACTIVE.
    """
    if approvable(before) == approvable(after) and before.pending_budget == after.pending_budget:
        return ()
    if after.status is CampaignStatus.DRAFT or after.status is CampaignStatus.CANCELLED:
        return (ApprovalState.PENDING, *((ApprovalState.APPROVED,) if _is_draft(before) else ()))
    return (ApprovalState.PENDING,)


def approve(campaign: Campaign, account: Account, organization: Organization) -> Campaign:
    """A pending budget becomes the budget; that of a DRAFT may be activated from now on.

    Raises FieldsNotChangeable when the organization's limit or what is billed does not allow the budget any
    more.
    """
    if _is_draft(campaign):
        wanted = msgspec.structs.replace(campaign, approved_budget_version=campaign.budget_version)
    else:
        wanted = _with_pending(campaign)
    if errors := tuple(_not_possible(wanted, account, organization)):
        raise FieldsNotChangeable(campaign.status, errors)
    return wanted


def reject(campaign: Campaign) -> Campaign:
    """Without its pending budget; a DRAFT stays as it is."""
    return campaign if _is_draft(campaign) else msgspec.structs.replace(campaign, pending_budget=None)


def _is_draft(campaign: Campaign) -> bool:
    return campaign.status is CampaignStatus.DRAFT


def _with_pending(campaign: Campaign) -> Campaign:
    pending = campaign.pending_budget
    if pending is None:
        return campaign
    settings = msgspec.structs.replace(campaign.settings, budget_limit=pending.budget_limit or UNSET)
    return msgspec.structs.replace(campaign, budget=pending.budget, settings=settings, pending_budget=None)


def _not_possible(wanted: Campaign, account: Account, organization: Organization) -> Iterator[FieldError]:
    amounts = Amounts(wanted.currency, wanted.budget, wanted.budget_limit, wanted.pricing)
    yield from over_limit(amounts, organization)
    budget = wanted.effective_budget
    if budget is not None and budget < account.billed:
        yield FieldError(BUDGET, "must not be below what is billed")
