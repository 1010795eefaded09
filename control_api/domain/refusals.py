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


class NotPossible(Refusal):
    """A step of the lifecycle is not possible now; `allowed` are the ways out of the campaign's status."""

    def __init__(self, sentence: str, status: CampaignStatus, allowed: Sequence[str]) -> None:
        super().__init__(sentence)
        self.status = status
        self.allowed = tuple(allowed)


class NotInThisStatus(NotPossible):
    """The lifecycle has no such step from the campaign's status."""


class FieldsNotChangeable(Refusal):
    """Fields that may not be changed in the campaign's status, or not to these values."""

    def __init__(self, status: CampaignStatus, errors: Sequence[FieldError]) -> None:
        super().__init__(f"some fields cannot be changed like this while a campaign is {status}")
        self.status = status
        self.errors = tuple(errors)


class DatePassed(NotPossible):
    """The campaign cannot be activated because its start or its end is over."""


class ApprovalRequired(NotPossible):
    """The budget is above the organization's approval threshold and nobody has approved it."""


class BudgetNotAcknowledged(NotPossible):
    """90 % of this budget version is billed, and nobody has accepted that."""


class BudgetSpent(NotPossible):
    """The budget or the impressions of this budget version are used up."""


class ApprovalNotNeeded(NotPossible):
    """There is no budget of the campaign that waits for approval."""


class ApprovalAsked(NotPossible):
    """The approval was asked for already, and nobody has decided yet."""


class ApprovalDecided(Refusal):
    """The approval was decided on, or withdrawn by a change, before."""


class HasEvents(NotPossible):
    """A campaign with recorded events cannot be deleted."""
