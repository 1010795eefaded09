"""Campaigns, accounts and organizations as plain values."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from control_api.domain.account import Account
from control_api.domain.campaign import Campaign, CampaignType, PricingSettings, Settings
from control_api.domain.organization import Limits, Organization
from control_api.domain.submission import Submission
from schemas.money import Money
from schemas.reasons import CampaignStatus, Channel, PricingModel

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ORGANIZATION_ID = "01900000-0000-7000-8000-00000000000a"
USER_ID = "01900000-0000-7000-8000-00000000000b"
CAMPAIGN_ID = "01900000-0000-7000-8000-00000000000c"


def eur(amount: str) -> Money:
    return Money(Decimal(amount), "EUR")


def a_campaign(**changes: Any) -> Campaign:
    """ACTIVE since yesterday with a budget of 100 EUR, unless changed."""
    campaign = Campaign(
        id=CAMPAIGN_ID,
        organization_id=ORGANIZATION_ID,
        name="Summer",
        description="",
        type=CampaignType.PROMOTION,
        targeting_rules=("rule-1",),
        start_date=NOW - DAY,
        end_date=NOW + 30 * DAY,
        budget=eur("100.00"),
        settings=Settings(channels=(Channel.WEB,), pricing=PricingSettings(PricingModel.CPM, eur("2.50"))),
        currency="EUR",
        status=CampaignStatus.ACTIVE,
        created_by=USER_ID,
        created_at=NOW - DAY,
        updated_by=USER_ID,
        updated_at=NOW - DAY,
    )
    return msgspec.structs.replace(campaign, **changes)


def an_account(**changes: Any) -> Account:
    account = Account(currency="EUR", budget=100_000_000)
    return msgspec.structs.replace(account, **changes)


def an_organization(**limits: Decimal) -> Organization:
    """With limits in EUR when any are given."""
    return Organization(
        id=ORGANIZATION_ID,
        name="Org",
        limits={"EUR": Limits(**limits)} if limits else {},
        created_at=NOW,
        updated_at=NOW,
    )


def a_submission(**changes: Any) -> Submission:
    submission = Submission(
        name="Summer",
        type=CampaignType.PROMOTION,
        targeting_rules=("rule-1",),
        start_date=NOW + DAY,
        end_date=NOW + 30 * DAY,
        budget=eur("100.00"),
        settings=Settings(channels=(Channel.WEB,)),
    )
    return msgspec.structs.replace(submission, **changes)


def submission_of(campaign: Campaign, **changes: Any) -> Submission:
    """What a client would send back of a campaign, with changes."""
    names = Submission.__struct_fields__
    return msgspec.structs.replace(Submission(**{name: getattr(campaign, name) for name in names}), **changes)
