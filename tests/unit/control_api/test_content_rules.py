"""What a campaign must be to be created."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import msgspec
import pytest

from control_api.domain.campaign import ABTestSettings, PricingSettings, SchedulingRule, Settings, Variant
from control_api.domain.content_rules import new_content
from control_api.domain.importing import imported_content
from control_api.domain.refusals import InvalidCampaign
from control_api.domain.submission import Submission
from schemas.money import Money
from schemas.reasons import Channel, PricingModel
from tests.unit.control_api.samples import DAY, NOW, a_submission, an_organization, eur

WEB = Settings(channels=(Channel.WEB,))


def pointers(submission, organization=None):
    with pytest.raises(InvalidCampaign) as refused:
        new_content(submission, organization or an_organization(), NOW)
    return {error.pointer for error in refused.value.errors}


def test_everything_that_is_missing_is_named_at_once():
    assert pointers(Submission()) == {"/name", "/type", "/startDate", "/targetingRules", "/settings/channels"}


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"name": "  "}, "/name"),
        ({"start_date": NOW}, "/startDate"),
        ({"end_date": NOW + DAY}, "/endDate"),
        ({"end_date": datetime(9999, 1, 1, tzinfo=UTC)}, "/endDate"),
        ({"start_date": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5)))}, "/startDate"),
        ({"targeting_rules": ("a", "a")}, "/targetingRules/1"),
        ({"budget": eur("0")}, "/budget/amount"),
        ({"budget": eur("-1")}, "/budget/amount"),
        ({"budget": eur("1.001")}, "/budget/amount"),
        ({"budget": eur("NaN")}, "/budget/amount"),
        ({"budget": eur("1E+999999")}, "/budget/amount"),
        ({"budget": eur("1E-999999")}, "/budget/amount"),
        ({"budget": Money(Decimal("0.5"), "JPY")}, "/budget/amount"),
        ({"budget": Money(Decimal("1.2345"), "KWD")}, "/budget/amount"),
        ({"budget": Money(Decimal(1), "XXX")}, "/budget/currency"),
        ({"settings": Settings()}, "/settings/channels"),
    ],
)
def test_a_rule_that_is_broken_names_its_field(changes, pointer):
    assert pointers(a_submission(**changes)) == {pointer}


@pytest.mark.parametrize("money", [Money(Decimal("10000.0"), "JPY"), Money(Decimal("1.234"), "KWD")])
def test_budgets_have_the_decimals_of_their_currency(money):
    content = new_content(a_submission(budget=money), an_organization(), NOW)
    assert content.budget == money
    assert content.currency == money.currency


@pytest.mark.parametrize(
    ("model", "price", "right"),
    [
        (PricingModel.CPM, "2.505", True),
        (PricingModel.CPM, "2.5055", False),
        (PricingModel.CPC, "0.000001", True),
        (PricingModel.CPC, "0.0000001", False),
        (PricingModel.CPA, "-1", False),
        (PricingModel.FLAT, "500", True),
    ],
)
def test_a_price_has_the_decimals_of_its_model(model, price, right):
    settings = msgspec.structs.replace(WEB, pricing=PricingSettings(model, eur(price)))
    if right:
        assert new_content(a_submission(settings=settings), an_organization(), NOW).pricing.price == eur(
            price
        )
    else:
        assert pointers(a_submission(settings=settings)) == {"/settings/pricing/price/amount"}


def test_only_event_pricing_goes_without_a_price():
    event = msgspec.structs.replace(WEB, pricing=PricingSettings(PricingModel.EVENT))
    assert (
        new_content(a_submission(settings=event), an_organization(), NOW).pricing.model is PricingModel.EVENT
    )
    clicks = msgspec.structs.replace(WEB, pricing=PricingSettings(PricingModel.CPC))
    assert pointers(a_submission(settings=clicks)) == {"/settings/pricing/price"}


def test_a_campaign_has_one_currency():
    settings = msgspec.structs.replace(WEB, budget_limit=Money(Decimal(5), "USD"))
    assert pointers(a_submission(settings=settings)) == {"/settings/budgetLimit/currency"}


def test_the_default_pricing_is_cpm_for_nothing():
    pricing = new_content(a_submission(), an_organization(), NOW).pricing
    assert (pricing.model, pricing.price) == (PricingModel.CPM, eur("0"))


def test_the_organizations_largest_budget_holds_also_for_no_budget():
    organization = an_organization(largest_budget=Decimal("99.99"))
    assert pointers(a_submission(), organization) == {"/budget"}
    assert pointers(a_submission(budget=None), organization) == {"/budget"}
    assert new_content(a_submission(budget=eur("99.99")), organization, NOW)


def test_times_become_utc_with_whole_milliseconds():
    start = datetime(2026, 12, 1, 2, 0, 0, 123_987, tzinfo=timezone(timedelta(hours=2)))
    content = new_content(a_submission(start_date=start), an_organization(), NOW)
    assert content.start_date == datetime(2026, 12, 1, 0, 0, 0, 123_000, tzinfo=UTC)
    assert content.start_date.utcoffset() == timedelta(0)


def test_scheduling_and_experiments_are_checked():
    broken = msgspec.structs.replace(
        WEB,
        scheduling_rules=(SchedulingRule(days=("MON",), time_zone="Mars/Base", from_="10:00", to="09:00"),),
        ab_test_settings=ABTestSettings(variants=(Variant("a", 1), Variant("a", 1))),
    )
    assert pointers(a_submission(settings=broken)) == {
        "/settings/schedulingRules/0/timeZone",
        "/settings/schedulingRules/0/to",
        "/settings/abTestSettings/variants",
    }


def rules(count: int) -> tuple[str, ...]:
    """So many, of 100 bytes each as JSON with what separates them."""
    return tuple(f"{n:097}" for n in range(count))


def test_rules_and_settings_are_bounded_together_and_the_longest_part_is_named():
    half = msgspec.structs.replace(WEB, target_audience=rules(300))
    fits = a_submission(targeting_rules=rules(345), settings=half)
    assert new_content(fits, an_organization(), NOW).targeting_rules == rules(345)
    assert imported_content(fits, an_organization())
    assert pointers(a_submission(targeting_rules=rules(360), settings=half)) == {"/targetingRules"}
    long = msgspec.structs.replace(WEB, target_audience=rules(656))
    assert pointers(a_submission(settings=long)) == {"/settings/targetAudience"}
    with pytest.raises(InvalidCampaign):
        imported_content(a_submission(settings=long), an_organization())
    rule = SchedulingRule(days=("MON",), from_="09:00")
    many = msgspec.structs.replace(WEB, scheduling_rules=(rule,) * 1_000, target_audience=rules(200))
    assert pointers(a_submission(settings=many)) == {"/settings/schedulingRules"}
