"""`budget-gates`: the compacted set of thresholds that a campaign's spend has crossed."""

import msgspec

from schemas.reasons import Threshold

TOPIC = "budget-gates"


class Coordinates(msgspec.Struct, frozen=True, rename="camel"):
    """The place of an event in `tracking-events`."""

    incarnation: int
    partition: int
    offset: int
    index: int


class BudgetGate(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The thresholds crossed in one budget version of a campaign, published with each new crossing.

    `version` rises with every crossing of the campaign, over all budget versions; readers ignore a version
    that is not above the one they hold. `billed` is in micros at the moment of the newest crossing, `at` is
    the receivedAt (epoch ms) of the event that caused it.
    """

    campaign_id: str
    organization_id: str
    version: int
    budget_version: int
    thresholds: tuple[Threshold, ...]
    billed: int
    at: int
    cause: Coordinates
