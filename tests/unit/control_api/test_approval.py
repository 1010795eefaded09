"""What can be approved, and what an approval makes of a campaign."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from control_api.domain.approval import (
    ApprovalState,
    approvable,
    approve,
    reject,
    to_ask,
    withdrawn_states,
)
from control_api.domain.budget import with_budget_version
from control_api.domain.campaign import PendingBudget
from control_api.domain.lifecycle import activate, stop
from control_api.domain.refusals import ApprovalNotNeeded, ApprovalRequired, FieldsNotChangeable
from control_api.handlers.change import moved
from schemas.reasons import CampaignStatus
from tests.unit.control_api.samples import DAY, NOW, a_campaign, an_account, an_organization, eur

STRICT = an_organization(approval_threshold=Decimal(50))
DRAFT = a_campaign(status=CampaignStatus.DRAFT, start_date=NOW + DAY)
WAITING = a_campaign(pending_budget=PendingBudget(eur("300.00"), eur("200.00")))


def test_a_draft_is_activated_once_its_budget_version_is_approved() -> None:
    with pytest.raises(ApprovalRequired):
        activate(DRAFT, an_account(), STRICT, now=NOW)
    approved = approve(DRAFT, an_account(), STRICT)
    assert activate(approved, an_account(), STRICT, now=NOW).status is CampaignStatus.ACTIVE
    changed = msgspec.structs.replace(approved, budget=eur("99.00"))
    versioned, _ = with_budget_version(changed, approved, an_account())
    with pytest.raises(ApprovalRequired):
        activate(versioned, an_account(), STRICT, now=NOW)


def test_another_currency_is_another_budget_version() -> None:
    changed = msgspec.structs.replace(DRAFT, currency="USD")
    versioned, _ = with_budget_version(changed, DRAFT, an_account())
    assert versioned.budget_version == DRAFT.budget_version + 1


def test_a_pending_budget_becomes_the_budget_with_its_limit() -> None:
    after = approve(WAITING, an_account(), STRICT)
    assert (after.budget, after.budget_limit, after.pending_budget) == (eur("300.00"), eur("200.00"), None)
    none_at_all = a_campaign(pending_budget=PendingBudget(None, None))
    assert approve(none_at_all, an_account(), STRICT).effective_budget is None
    assert reject(WAITING).pending_budget is None
    assert reject(WAITING).budget == WAITING.budget
    assert reject(DRAFT) == DRAFT


@pytest.mark.parametrize(
    ("billed", "largest"), [(200_000_001, None), (0, Decimal(299))], ids=["billed", "limit"]
)
def test_what_is_not_possible_any_more_is_not_approved(billed: int, largest: Decimal | None) -> None:
    organization = an_organization(approval_threshold=Decimal(50), largest_budget=largest)
    with pytest.raises(FieldsNotChangeable):
        approve(WAITING, an_account(billed=billed), organization)


@pytest.mark.parametrize(
    "campaign",
    [
        a_campaign(),
        a_campaign(status=CampaignStatus.COMPLETED, pending_budget=WAITING.pending_budget),
        msgspec.structs.replace(DRAFT, budget=eur("50.00")),
        msgspec.structs.replace(DRAFT, approved_budget_version=1),
        msgspec.structs.replace(DRAFT, deleted_at=NOW),
    ],
    ids=["nothing pending", "over", "below the threshold", "approved", "deleted"],
)
def test_only_what_waits_can_be_asked_for(campaign) -> None:
    with pytest.raises(ApprovalNotNeeded):
        to_ask(campaign, STRICT)


def test_what_is_asked_for_is_the_effective_budget() -> None:
    asked = to_ask(WAITING, STRICT)
    assert (asked.budget, asked.currency, asked.for_pending) == (200_000_000, "EUR", True)
    assert to_ask(DRAFT, STRICT).budget == 100_000_000
    assert approvable(a_campaign()) is None


def test_a_change_withdraws_what_was_asked_for_something_else() -> None:
    both = (ApprovalState.PENDING, ApprovalState.APPROVED)
    versioned = msgspec.structs.replace(DRAFT, budget=eur("60.00"), budget_version=2)
    assert withdrawn_states(DRAFT, versioned) == both
    assert withdrawn_states(DRAFT, stop(DRAFT, now=NOW)) == both
    assert withdrawn_states(DRAFT, msgspec.structs.replace(DRAFT, deleted_at=NOW)) == both
    assert withdrawn_states(DRAFT, msgspec.structs.replace(DRAFT, name="other")) == ()
    active = msgspec.structs.replace(DRAFT, status=CampaignStatus.ACTIVE)
    assert withdrawn_states(DRAFT, active) == (ApprovalState.PENDING,)
    same_amount = msgspec.structs.replace(WAITING, pending_budget=PendingBudget(eur("400.00"), eur("200.00")))
    assert withdrawn_states(WAITING, same_amount) == (ApprovalState.PENDING,)
    assert withdrawn_states(WAITING, stop(WAITING, now=NOW)) == (ApprovalState.PENDING,)


@pytest.mark.parametrize(
    ("changes", "writes"),
    [
        ({"budget": eur("99.00")}, True),
        ({"budget": None}, True),
        ({"settings": msgspec.structs.replace(DRAFT.settings, budget_limit=eur("50.00"))}, True),
        ({"pending_budget": PendingBudget(eur("300.00"), None)}, True),
        ({"settings": msgspec.structs.replace(DRAFT.settings, max_impressions=5)}, False),
        ({"description": "other words"}, False),
    ],
)
def test_who_wrote_the_budget_stays_so_when_another_one_touches_the_rest(
    changes: dict[str, Any], writes: bool
) -> None:
    before = msgspec.structs.replace(DRAFT, budget_changed_by="author")
    after = msgspec.structs.replace(before, **changes)
    made = moved(before=before, after=after, account=an_account(), kinds=(), now=NOW, updated_by="other")
    assert made.campaign.budget_changed_by == ("other" if writes else "author")


def test_a_pending_budget_stays_the_one_of_who_wrote_it_when_it_becomes_the_budget() -> None:
    before = msgspec.structs.replace(WAITING, budget_changed_by="author")
    after = approve(before, an_account(), STRICT)
    made = moved(before=before, after=after, account=an_account(), kinds=(), now=NOW, updated_by="other")
    assert made.campaign.budget_version == before.budget_version + 1
    assert made.campaign.budget_changed_by == "author"
