"""The closed sets that code, metrics, answers, rows and documents share."""

from enum import StrEnum


class EventType(StrEnum):
    """What a beacon reports."""

    IMPRESSION = "IMPRESSION"
    CLICK = "CLICK"
    CONVERSION = "CONVERSION"
    BOUNCE = "BOUNCE"
    UNSUBSCRIBE = "UNSUBSCRIBE"


class Channel(StrEnum):
    """Where a campaign is delivered."""

    EMAIL = "EMAIL"
    SMS = "SMS"
    PUSH = "PUSH"
    WEB = "WEB"
    SOCIAL = "SOCIAL"
    DISPLAY = "DISPLAY"


class Unbilled(StrEnum):
    """Why an event of a known campaign is stored and counted, but costs nothing."""

    NOT_STARTED = "NOT_STARTED"
    PAUSED = "PAUSED"
    BUDGET_90 = "BUDGET_90"
    BUDGET_100 = "BUDGET_100"
    MAX_IMPRESSIONS = "MAX_IMPRESSIONS"
    END_DATE = "END_DATE"
    CANCELLED = "CANCELLED"
    DRAFT = "DRAFT"
    BOT = "BOT"
    BACKFILL = "BACKFILL"


class Rejected(StrEnum):
    """Why an event is refused at the door and not stored."""

    UNKNOWN_CAMPAIGN = "UNKNOWN_CAMPAIGN"
    MALFORMED = "MALFORMED"
    TOO_LARGE = "TOO_LARGE"
    WRONG_CURRENCY = "WRONG_CURRENCY"
    TOO_OLD = "TOO_OLD"
    IN_FUTURE = "IN_FUTURE"
    MISSING_SCOPE = "MISSING_SCOPE"


class CampaignStatus(StrEnum):
    """The states of a campaign's life cycle (specification, domain model)."""

    DRAFT = "DRAFT"
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"


class StatusReason(StrEnum):
    """Why a campaign stopped running by itself."""

    BUDGET_90 = "BUDGET_90"
    BUDGET_100 = "BUDGET_100"
    MAX_IMPRESSIONS = "MAX_IMPRESSIONS"
    END_DATE = "END_DATE"


class Threshold(StrEnum):
    """What an event's spend can cross, once per budget version."""

    BUDGET_90 = "90"
    BUDGET_100 = "100"
    MAX_IMPRESSIONS = "MAX_IMPRESSIONS"


class PricingModel(StrEnum):
    """What a campaign pays for."""

    CPM = "CPM"
    CPC = "CPC"
    CPA = "CPA"
    FLAT = "FLAT"
    EVENT = "EVENT"


class Scope(StrEnum):
    """What an access key may do at the door."""

    WRITE = "events:write"
    COST = "events:cost"
    BACKFILL = "events:backfill"
