"""A campaign and its settings (specification: Domain Model)."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from schemas.money import Micros, Money, budget_micros, from_micros
from schemas.patterns import END
from schemas.reasons import CampaignStatus, Channel, PricingModel, StatusReason

MAX_COUNT = 10**15
MAX_LIST = 1_000

ShortText = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Texts = Annotated[tuple[ShortText, ...], msgspec.Meta(max_length=MAX_LIST)]
Count = Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
TimeOfDay = Annotated[str, msgspec.Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$|^24:00$", max_length=5)]
Host = Annotated[str, msgspec.Meta(pattern=rf"^[A-Za-z0-9*]([A-Za-z0-9.-]{{0,251}}[A-Za-z0-9])?{END}")]


class CampaignType(StrEnum):
    """What a campaign is for."""

    PROMOTION = "PROMOTION"
    LOYALTY = "LOYALTY"
    COUPON = "COUPON"
    SEGMENTATION = "SEGMENTATION"
    RETARGETING = "RETARGETING"


class Frequency(StrEnum):
    """How often a campaign addresses its audience."""

    ONCE = "ONCE"
    DAILY = "DAILY"
    WEEKLY = "WEEKLY"
    MONTHLY = "MONTHLY"


class Day(StrEnum):
    """A day of the week in a scheduling rule."""

    MON = "MON"
    TUE = "TUE"
    WED = "WED"
    THU = "THU"
    FRI = "FRI"
    SAT = "SAT"
    SUN = "SUN"


class _Part(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=False):
    """How every part of a campaign is written: camelCase, nothing unknown."""


class PricingSettings(_Part, frozen=True):
    """What an event costs: `price` per thousand impressions, click, conversion or once, by the model."""

    model: PricingModel
    price: Money | UnsetType = UNSET


class AttributionSettings(_Part, frozen=True):
    """For how long late clicks and conversions stay billable."""

    click_hours: Annotated[int, msgspec.Meta(ge=0, le=24 * 365)] = 24
    conversion_days: Annotated[int, msgspec.Meta(ge=0, le=365)] = 30


class FrequencyCapSettings(_Part, frozen=True):
    """At most `impressions` to one visitor within `perHours`."""

    impressions: Count
    per_hours: Annotated[int, msgspec.Meta(ge=1, le=24 * 365)]


class Variant(_Part, frozen=True):
    """One arm of an A/B test; weights are relative."""

    name: ShortText
    weight: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class ABTestSettings(_Part, frozen=True):
    """An experiment between variants."""

    variants: Annotated[tuple[Variant, ...], msgspec.Meta(max_length=100)]
    primary_metric: ShortText = "conversionRate"
    minimum_sample: Count = 1000
    confidence: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.95


class SchedulingRule(_Part, frozen=True):
    """Hours of days at which a campaign is shown, in a time zone."""

    days: Annotated[tuple[Day, ...], msgspec.Meta(min_length=1, max_length=7)]
    time_zone: ShortText = "UTC"
    from_: TimeOfDay = msgspec.field(default="00:00", name="from")
    to: TimeOfDay = "24:00"


class Personalization(_Part, frozen=True):
    """Rules of the rules service that adapt the content."""

    enabled: bool = False
    rules: Texts = ()


class Settings(_Part, frozen=True):
    """Campaign settings; an optional part that is not set is left out of answers."""

    target_audience: Texts = ()
    channels: Annotated[tuple[Channel, ...], msgspec.Meta(max_length=len(Channel))] = ()
    frequency: Frequency = Frequency.ONCE
    max_impressions: Count | UnsetType | None = UNSET
    budget_limit: Money | UnsetType | None = UNSET
    pricing: PricingSettings | UnsetType | None = UNSET
    attribution: AttributionSettings | UnsetType | None = UNSET
    frequency_cap: FrequencyCapSettings | UnsetType | None = UNSET
    landing_hosts: Annotated[tuple[Host, ...], msgspec.Meta(max_length=MAX_LIST)] = ()
    ab_test_settings: ABTestSettings | UnsetType | None = msgspec.field(default=UNSET, name="abTestSettings")
    scheduling_rules: Annotated[tuple[SchedulingRule, ...], msgspec.Meta(max_length=MAX_LIST)] = ()
    personalization: Personalization = Personalization()


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What a marketer writes: the whole that POST and PUT send. Normalized: moments are UTC with whole
    milliseconds, amounts carry their currency's decimals, the pricing is there, names are trimmed."""

    name: str
    description: str
    type: CampaignType
    targeting_rules: tuple[str, ...]
    start_date: datetime
    end_date: datetime | None
    budget: Money | None
    settings: Settings
    currency: str

    @property
    def max_impressions(self) -> int | None:
        return self.settings.max_impressions or None

    @property
    def budget_limit(self) -> Money | None:
        return self.settings.budget_limit or None

    @property
    def pricing(self) -> PricingSettings:
        return self.settings.pricing or free_of_charge(self.currency)


class PendingBudget(msgspec.Struct, frozen=True, rename="camel"):
    """A budget that waits for approval while the old one runs on."""

    budget: Money | None
    budget_limit: Money | None


class Campaign(Content, frozen=True, kw_only=True):
    """The aggregate. `version` rises with every change, `budget_version` with every change of the effective
    budget or of maxImpressions. `closed_since` is when it last stopped running; `approved_budget_version` is
    the budget version of a DRAFT that somebody has approved."""

    id: str
    organization_id: str
    status: CampaignStatus
    status_reason: StatusReason | None = None
    budget_version: int = 1
    acknowledged_threshold: int = 0
    pending_budget: PendingBudget | None = None
    approved_budget_version: int | None = None
    budget_changed_by: str | None = None
    closed_since: datetime | None = None
    created_by: str
    created_at: datetime
    updated_by: str
    updated_at: datetime
    deleted_at: datetime | None = None
    version: int = 1

    @property
    def effective_budget(self) -> Micros | None:
        return effective_budget(self.budget, self.budget_limit)


def free_of_charge(currency: str) -> PricingSettings:
    """The default pricing: CPM 0."""
    return PricingSettings(model=PricingModel.CPM, price=from_micros(0, currency))


def effective_budget(budget: Money | None, limit: Money | None) -> Micros | None:
    """The smaller of `budget` and `settings.budgetLimit` in micros; None when neither is set."""
    return min((budget_micros(money) for money in (budget, limit) if money is not None), default=None)
