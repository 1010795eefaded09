"""What PUT may change in which status, and how budgets change."""

from decimal import Decimal

import msgspec
import pytest

from control_api.domain.budget import with_budget_version
from control_api.domain.campaign import CampaignType, PricingSettings
from control_api.domain.content_rules import read_submission
from control_api.domain.organization import Limits
from control_api.domain.refusals import FieldsNotChangeable, InvalidCampaign
from control_api.domain.replacement import replace
from schemas.money import Money
from schemas.reasons import CampaignStatus as Status
from schemas.reasons import Channel, PricingModel, Threshold
from tests.unit.control_api.samples import (
    DAY,
    NOW,
    a_campaign,
    an_account,
    an_organization,
    eur,
    submission_of,
)


def put(campaign, account=None, organization=None, **changes):
    read = read_submission(submission_of(campaign, **changes), campaign.currency)
    return replace(campaign, read, account or an_account(), organization or an_organization(), now=NOW)


def settings(campaign, **changes):
    return msgspec.structs.replace(campaign.settings, **changes)


CHANGES = {
    "/name": {"name": "Winter"},
    "/description": {"description": "new"},
    "/endDate": {"end_date": NOW + 60 * DAY},
    "/budget": {"budget": eur("200.00")},
    "/settings/frequencyCap": {"settings": settings(a_campaign(), landing_hosts=("shop.example",))},
    "/targetingRules": {"targeting_rules": ("rule-2",)},
    "/type": {"type": CampaignType.COUPON},
    "/startDate": {"start_date": NOW + DAY},
    "/settings/pricing": {
        "settings": settings(a_campaign(), pricing=PricingSettings(PricingModel.CPC, eur("1")))
    },
}
EVERYWHERE = {"/name", "/description"}
RUNNING = EVERYWHERE | {"/endDate", "/budget", "/settings/frequencyCap"}
MAY = {
    Status.DRAFT: set(CHANGES),
    Status.ACTIVE: RUNNING,
    Status.PAUSED: RUNNING | {"/targetingRules"},
    Status.COMPLETED: EVERYWHERE,
    Status.CANCELLED: EVERYWHERE,
}


@pytest.mark.parametrize("field", CHANGES)
@pytest.mark.parametrize("status", Status)
def test_each_status_has_its_changeable_fields(status, field):
    campaign = a_campaign(status=status)
    if field in MAY[status]:
        put(campaign, **CHANGES[field])
        return
    with pytest.raises(FieldsNotChangeable) as refused:
        put(campaign, **CHANGES[field])
    assert refused.value.status is status
    assert len(refused.value.errors) == 1


@pytest.mark.parametrize("status", Status)
def test_what_does_not_differ_is_never_refused(status):
    campaign = a_campaign(status=status, end_date=NOW - DAY / 2)
    assert put(campaign) == campaign


def test_the_start_may_move_while_it_is_scheduled():
    scheduled = a_campaign(start_date=NOW + DAY)
    assert put(scheduled, start_date=NOW + 2 * DAY).start_date == NOW + 2 * DAY
    with pytest.raises(InvalidCampaign):
        put(scheduled, start_date=NOW - DAY)


def test_an_end_in_the_past_is_refused():
    with pytest.raises(InvalidCampaign):
        put(a_campaign(), end_date=NOW)


def test_the_currency_is_fixed_once_it_has_left_draft():
    usd = Money(Decimal(100), "USD")
    free = {"budget": usd, "settings": settings(a_campaign(), pricing=msgspec.UNSET)}
    assert put(a_campaign(status=Status.DRAFT), **free).currency == "USD"
    with pytest.raises(FieldsNotChangeable):
        put(a_campaign(), **free)


def test_a_budget_is_not_lowered_below_what_is_billed():
    account = an_account(billed=50_000_000, billable_impressions=10)
    assert put(a_campaign(), account, budget=eur("50.00")).budget == eur("50.00")
    with pytest.raises(FieldsNotChangeable) as refused:
        put(a_campaign(), account, budget=eur("49.99"))
    assert [error.pointer for error in refused.value.errors] == ["/budget"]
    with pytest.raises(FieldsNotChangeable):
        put(a_campaign(), account, settings=settings(a_campaign(), max_impressions=9))


def test_a_running_budget_above_the_threshold_waits_while_the_old_one_runs_on():
    organization = an_organization(approval_threshold=Decimal(150))
    waiting = put(a_campaign(), organization=organization, budget=eur("200.00"), description="new")
    assert waiting.budget == eur("100.00")
    assert waiting.description == "new"
    assert waiting.pending_budget.budget == eur("200.00")
    assert put(waiting, organization=organization, budget=eur("120.00")).pending_budget is None


def test_a_draft_takes_any_budget_within_the_limit():
    organization = an_organization(approval_threshold=Decimal(150))
    assert (
        put(a_campaign(status=Status.DRAFT), organization=organization, budget=eur("200.00")).pending_budget
        is None
    )


@pytest.mark.parametrize(
    ("billed", "crossed"),
    [
        (89_999_999, set()),
        (90_000_000, {Threshold.BUDGET_90}),
        (99_999_999, {Threshold.BUDGET_90}),
        (100_000_000, {Threshold.BUDGET_90, Threshold.BUDGET_100}),
    ],
)
def test_a_new_budget_version_is_compared_with_what_is_billed(billed, crossed):
    before = a_campaign(budget=eur("1000.00"), acknowledged_threshold=90, budget_version=3)
    after = msgspec.structs.replace(before, budget=eur("100.00"))
    versioned, found = with_budget_version(after, before, an_account(billed=billed))
    assert (versioned.budget_version, versioned.acknowledged_threshold, found) == (4, 0, crossed)


def test_only_a_change_of_what_may_be_spent_is_a_new_budget_version():
    before = a_campaign()
    for after, version in (
        (msgspec.structs.replace(before, name="x"), 1),
        (msgspec.structs.replace(before, budget=None), 2),
        (msgspec.structs.replace(before, settings=settings(before, max_impressions=5)), 2),
        (msgspec.structs.replace(before, settings=settings(before, budget_limit=eur("80.00"))), 2),
        (msgspec.structs.replace(before, settings=settings(before, budget_limit=eur("100.00"))), 1),
        (msgspec.structs.replace(before, settings=settings(before, channels=(Channel.SMS,))), 1),
    ):
        assert with_budget_version(after, before, an_account())[0].budget_version == version


def test_a_campaign_that_is_too_long_already_may_change_but_for_what_is_too_long():
    long = a_campaign(
        settings=settings(a_campaign(), target_audience=tuple(f"segment {n:0200}" for n in range(400)))
    )
    assert put(long, name="Winter").name == "Winter"
    with pytest.raises(InvalidCampaign) as refused:
        put(long, settings=settings(long, landing_hosts=("shop.example",)))
    assert [error.pointer for error in refused.value.errors] == ["/settings/targetAudience"]
    shorter = settings(long, target_audience=long.settings.target_audience[:300])
    assert put(long, settings=shorter).settings.target_audience == shorter.target_audience


def test_another_currency_is_held_to_its_own_largest_budget():
    organization = msgspec.structs.replace(an_organization(), limits={"USD": Limits(Decimal(100), None)})
    draft = a_campaign(status=Status.DRAFT, start_date=NOW + DAY, budget=None)
    dollars = PricingSettings(PricingModel.CPM, Money(Decimal("2.50"), "USD"))
    with pytest.raises(InvalidCampaign):
        put(draft, organization=organization, settings=settings(draft, pricing=dollars))


def test_a_text_that_stays_as_it_was_is_not_refused_for_a_rule_that_came_later():
    segments = settings(a_campaign(), target_audience=("seg\u202e",))
    kept = a_campaign(targeting_rules=("rule\u200b",), settings=segments)
    assert put(kept, name="Winter").name == "Winter"
    with pytest.raises(InvalidCampaign):
        put(kept, settings=settings(kept, target_audience=("seg\u202e", "another")))
