"""What transitions, approvals and bulk requests show."""

from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType

from control_api.domain.approval import Approval, ApprovalState
from control_api.routes.problems import Problem
from control_api.routes.views import CampaignView, PendingMoney
from schemas.money import from_micros


class PreviewView(msgspec.Struct, frozen=True):
    """The answer to `dryRun`: the campaign as it would be, or the problem that stands in the way."""

    possible: bool
    campaign: CampaignView | UnsetType = UNSET
    problem: Problem | UnsetType = UNSET


class ApprovalView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A request for approval. `budget` is the effective one that was asked for; an amount of null is none at
    all."""

    id: str
    campaign_id: str
    state: ApprovalState
    budget: PendingMoney
    budget_version: int
    for_pending_budget: bool
    asked_by: str
    asked_at: datetime
    ask_comment: str | None
    decided_by: str | None
    decided_at: datetime | None
    decide_comment: str | None


class ApprovalsView(msgspec.Struct, frozen=True, rename="camel"):
    """Approvals, the newest first; `nextCursor` is null on the last page."""

    items: list[ApprovalView]
    next_cursor: str | None


class BulkResultView(msgspec.Struct, frozen=True):
    """What became of one id; `campaign` is missing where it was deleted."""

    id: str
    status: int
    campaign: CampaignView | UnsetType = UNSET
    problem: Problem | UnsetType = UNSET


class BulkView(msgspec.Struct, frozen=True):
    """One result for each id, in the order of the request."""

    results: list[BulkResultView]
    succeeded: int
    failed: int


def approval_view(approval: Approval) -> ApprovalView:
    """An approval as shown."""
    asked = approval.asked
    amount = None if asked.budget is None else from_micros(asked.budget, asked.currency, budget=True).amount
    return ApprovalView(
        id=approval.id,
        campaign_id=approval.campaign_id,
        state=approval.state,
        budget=PendingMoney(amount, asked.currency),
        budget_version=asked.budget_version,
        for_pending_budget=asked.for_pending,
        asked_by=approval.asked_by,
        asked_at=approval.asked_at,
        ask_comment=approval.ask_comment,
        decided_by=approval.decided_by,
        decided_at=approval.decided_at,
        decide_comment=approval.decide_comment,
    )
