"""Why the domain refuses a change. The edge maps each to an answer in one place."""

from collections.abc import Sequence

import msgspec

from schemas.reasons import CampaignStatus


class FieldError(msgspec.Struct, frozen=True):
    """What is wrong with one field; `pointer` is a JSON pointer into the request's body."""

    pointer: str
    detail: str


class Refusal(Exception):
    """A request that the rules of campaigns do not allow; `str()` is a sentence for the caller."""


class InvalidCampaign(Refusal):
    """Fields break rules of creation or update; every one of them is named."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__("the campaign is not valid")
        self.errors = tuple(errors)


class NotInThisStatus(Refusal):
    """The lifecycle has no such step from the campaign's status."""

    def __init__(self, act: str, status: CampaignStatus, allowed: Sequence[str]) -> None:
        super().__init__(f"{act} is not possible while a campaign is {status}")
        self.status = status
        self.allowed = tuple(allowed)


class FieldsNotChangeable(Refusal):
    """Fields that may not be changed in the campaign's status, or not to these values."""

    def __init__(self, status: CampaignStatus, errors: Sequence[FieldError]) -> None:
        super().__init__(f"some fields cannot be changed like this while a campaign is {status}")
        self.status = status
        self.errors = tuple(errors)


class DatePassed(Refusal):
    """The campaign cannot be activated because its start or its end is over."""


class ApprovalRequired(Refusal):
    """The budget is above the organization's approval threshold and nobody has approved it."""


class BudgetNotAcknowledged(Refusal):
    """90 % of this budget version is billed, and nobody has accepted that."""


class BudgetSpent(Refusal):
    """The budget or the impressions of this budget version are used up."""


class HasEvents(Refusal):
    """A campaign with recorded events cannot be deleted."""
