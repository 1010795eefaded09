"""`campaign-state`: the compacted snapshot of a campaign that a door decides by."""

import msgspec

from schemas.reasons import CampaignStatus, PricingModel, StatusReason

TOPIC = "campaign-state"


class Pricing(msgspec.Struct, frozen=True, rename="camel"):
    """What an event of a campaign costs. `price` is in micros: per thousand impressions (CPM), per click,
    per conversion, once (FLAT); unused for EVENT."""

    model: PricingModel
    price: int


class Attribution(msgspec.Struct, frozen=True, rename="camel"):
    """For how long after a campaign was closed its late clicks and conversions stay billable."""

    click_hours: int = 24
    conversion_days: int = 30


class FrequencyCap(msgspec.Struct, frozen=True, rename="camel"):
    """At most `impressions` to one visitor within `per_hours`."""

    impressions: int
    per_hours: int


class CampaignState(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One version of a campaign; readers ignore a version that is not above the one they hold.

    Times are epoch milliseconds, money is micros. `status` with `gone` set is a deleted campaign: the value
    stays (with its version) for 30 days before it is tombstoned. `budget` is the effective budget, the
    smaller of `budget` and `settings.budgetLimit`; None for none. `closed_since` is when the campaign last
    stopped running (None while it runs or never ran).
    """

    campaign_id: str
    version: int
    organization_id: str
    status: CampaignStatus
    status_reason: StatusReason | None = None
    gone: bool = False
    starts_at: int
    ends_at: int | None = None
    pricing: Pricing
    currency: str
    budget: int | None = None
    budget_version: int
    acknowledged_threshold: int = 0
    """0, or 90 once a marketer has accepted that 90 % of this budget version is billed."""
    max_impressions: int | None = None
    attribution: Attribution = Attribution()
    frequency_cap: FrequencyCap | None = None
    landing_hosts: tuple[str, ...] = ()
    closed_since: int | None = None
