"""Every status and every way out of it."""

import pytest

from control_api.domain import lifecycle
from control_api.domain.campaign import PendingBudget
from control_api.domain.lifecycle import Act
from control_api.domain.refusals import (
    ApprovalRequired,
    BudgetNotAcknowledged,
    BudgetSpent,
    DatePassed,
    HasEvents,
    NotInThisStatus,
)
from schemas.reasons import CampaignStatus as Status
from schemas.reasons import StatusReason, Threshold
from tests.unit.control_api.samples import DAY, NOW, a_campaign, an_account, an_organization, eur

ALLOWED = {
    (Status.DRAFT, Act.ACTIVATE): Status.ACTIVE,
    (Status.DRAFT, Act.STOP): Status.CANCELLED,
    (Status.ACTIVE, Act.PAUSE): Status.PAUSED,
    (Status.ACTIVE, Act.STOP): Status.CANCELLED,
    (Status.PAUSED, Act.ACTIVATE): Status.ACTIVE,
    (Status.PAUSED, Act.STOP): Status.CANCELLED,
    (Status.COMPLETED, Act.STOP): Status.CANCELLED,
}


def do(act, campaign):
    match act:
        case Act.ACTIVATE:
            return lifecycle.activate(campaign, an_account(), an_organization(), now=NOW)
        case Act.PAUSE:
            return lifecycle.pause(campaign, now=NOW)
        case Act.STOP:
            return lifecycle.stop(campaign, now=NOW)


@pytest.mark.parametrize("act", Act)
@pytest.mark.parametrize("status", Status)
def test_only_the_documented_steps_lead_out_of_a_status(status, act):
    campaign = a_campaign(status=status, start_date=NOW + DAY)
    if (status, act) in ALLOWED:
        assert do(act, campaign).status is ALLOWED[status, act]
        return
    with pytest.raises(NotInThisStatus) as refused:
        do(act, campaign)
    assert refused.value.status is status
    assert set(refused.value.allowed) == {allowed for of, allowed in ALLOWED if of is status}


CROSSINGS = {
    frozenset({Threshold.BUDGET_90}): (Status.PAUSED, StatusReason.BUDGET_90),
    frozenset({Threshold.BUDGET_90, Threshold.BUDGET_100}): (Status.COMPLETED, StatusReason.BUDGET_100),
    frozenset({Threshold.MAX_IMPRESSIONS}): (Status.COMPLETED, StatusReason.MAX_IMPRESSIONS),
}


@pytest.mark.parametrize("crossed", CROSSINGS)
@pytest.mark.parametrize("status", Status)
def test_crossings_move_only_what_runs_or_pauses(status, crossed):
    campaign = a_campaign(status=status)
    moved = lifecycle.apply_crossings(campaign, crossed, at=NOW)
    wanted = CROSSINGS[crossed]
    stays = status not in (Status.ACTIVE, Status.PAUSED) or (status, wanted[0]) == (
        Status.PAUSED,
        Status.PAUSED,
    )
    if stays:
        assert moved is campaign
    else:
        assert (moved.status, moved.status_reason) == wanted


def test_an_acknowledged_ninety_percent_does_not_pause_again():
    campaign = a_campaign(acknowledged_threshold=90)
    assert lifecycle.apply_crossings(campaign, frozenset({Threshold.BUDGET_90}), at=NOW) is campaign


def test_resuming_after_ninety_percent_needs_to_be_acknowledged():
    campaign = a_campaign(status=Status.PAUSED, status_reason=StatusReason.BUDGET_90)
    account = an_account(crossed=frozenset({Threshold.BUDGET_90}))
    with pytest.raises(BudgetNotAcknowledged):
        lifecycle.activate(campaign, account, an_organization(), now=NOW)
    resumed = lifecycle.activate(campaign, account, an_organization(), now=NOW, acknowledge_budget=True)
    assert (resumed.status, resumed.acknowledged_threshold, resumed.status_reason) == (
        Status.ACTIVE,
        90,
        None,
    )


def test_a_budget_that_is_used_up_cannot_be_acknowledged():
    account = an_account(crossed=frozenset({Threshold.BUDGET_90, Threshold.BUDGET_100}))
    with pytest.raises(BudgetSpent):
        lifecycle.activate(
            a_campaign(status=Status.PAUSED), account, an_organization(), now=NOW, acknowledge_budget=True
        )


def test_a_draft_whose_start_has_passed_needs_start_now():
    draft = a_campaign(status=Status.DRAFT)
    with pytest.raises(DatePassed):
        lifecycle.activate(draft, an_account(), an_organization(), now=NOW)
    assert (
        lifecycle.activate(draft, an_account(), an_organization(), now=NOW, start_now=True).start_date == NOW
    )


@pytest.mark.parametrize("status", [Status.DRAFT, Status.PAUSED])
def test_nothing_is_activated_after_its_end(status):
    with pytest.raises(DatePassed):
        lifecycle.activate(
            a_campaign(status=status, end_date=NOW), an_account(), an_organization(), now=NOW, start_now=True
        )


def test_a_budget_above_the_threshold_needs_approval_and_so_does_none_at_all():
    organization = an_organization(approval_threshold=eur("99.99").amount)
    for budget in (eur("100.00"), None):
        draft = a_campaign(status=Status.DRAFT, start_date=NOW + DAY, budget=budget)
        with pytest.raises(ApprovalRequired):
            lifecycle.activate(draft, an_account(), organization, now=NOW)
    within = a_campaign(status=Status.DRAFT, start_date=NOW + DAY, budget=eur("99.99"))
    assert lifecycle.activate(within, an_account(), organization, now=NOW).status is Status.ACTIVE


@pytest.mark.parametrize("status", Status)
def test_the_end_date_completes_what_runs_or_pauses(status):
    campaign = a_campaign(status=status, end_date=NOW)
    assert lifecycle.complete_if_due(campaign, now=NOW - DAY) is campaign
    done = lifecycle.complete_if_due(campaign, now=NOW)
    if status in (Status.ACTIVE, Status.PAUSED):
        assert (done.status, done.status_reason) == (Status.COMPLETED, StatusReason.END_DATE)
    else:
        assert done is campaign


def test_closed_since_is_the_moment_at_which_it_stopped_running():
    paused = lifecycle.pause(a_campaign(), now=NOW)
    assert paused.closed_since == NOW
    assert lifecycle.stop(paused, now=NOW + DAY).closed_since == NOW
    resumed = lifecycle.activate(paused, an_account(), an_organization(), now=NOW)
    assert resumed.closed_since is None
    assert lifecycle.pause(a_campaign(start_date=NOW + DAY), now=NOW).closed_since is None


def test_no_budget_waits_for_approval_once_a_campaign_cannot_run_again():
    waiting = a_campaign(pending_budget=PendingBudget(eur("500.00"), None))
    assert lifecycle.pause(waiting, now=NOW).pending_budget == waiting.pending_budget
    assert lifecycle.stop(waiting, now=NOW).pending_budget is None
    assert lifecycle.complete_if_due(waiting, now=NOW + 31 * DAY).pending_budget is None


def test_an_active_campaign_before_its_start_is_scheduled():
    assert lifecycle.effective_status(a_campaign(start_date=NOW + DAY), NOW) == "SCHEDULED"
    assert lifecycle.effective_status(a_campaign(), NOW) == "ACTIVE"


def test_a_price_of_zero_beside_a_budget_is_a_warning():
    free = a_campaign(settings=a_campaign().settings.__class__())
    assert lifecycle.warnings(free)
    assert not lifecycle.warnings(a_campaign())


@pytest.mark.parametrize("status", Status)
def test_only_what_is_not_active_and_has_no_events_is_deleted(status):
    campaign = a_campaign(status=status)
    if status is Status.ACTIVE:
        with pytest.raises(NotInThisStatus):
            lifecycle.require_deletable(campaign, an_account())
        return
    lifecycle.require_deletable(campaign, an_account())
    with pytest.raises(HasEvents):
        lifecycle.require_deletable(campaign, an_account(invalid_clicks=1))
    with pytest.raises(HasEvents):
        lifecycle.require_deletable(campaign, an_account(unbilled={"PAUSED": 1}))
