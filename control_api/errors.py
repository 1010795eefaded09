"""What can go wrong outside the domain's rules. `routes/problems.py` maps each to an answer."""

from collections.abc import Sequence

from control_api.domain.refusals import FieldError


class ControlError(Exception):
    """Any of these; `str()` is a sentence for the caller."""


class SettingsError(ControlError):
    """A setting is missing or contradictory; names the variable."""


class NotFound(ControlError):
    """There is no such thing in the caller's organization."""


class Unauthorized(ControlError):
    """No token, or one that is not valid."""


class Forbidden(ControlError):
    """The token is valid, but its roles do not allow this."""


class MalformedRequest(ControlError):
    """The request cannot be read: not JSON, an unknown field or parameter, a broken header."""

    def __init__(self, sentence: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(sentence)
        self.errors = tuple(errors)


class TooLarge(ControlError):
    """A file is larger than what is taken, as it was sent or decompressed."""


class TooSlow(ControlError):
    """A body was not sent in time."""


class UnsupportedMediaType(ControlError):
    """The body is encoded in a way that is not read here."""


class InvalidRequest(ControlError):
    """The request can be read, but fields have values that are not possible."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__("some fields are not valid")
        self.errors = tuple(errors)


class WebhookInactive(ControlError):
    """Nothing is sent to a webhook that is not active."""


class TooManyWebhooks(ControlError):
    """The organization has as many webhooks as it may."""


class JobFinished(ControlError):
    """The job has come to its end before."""


class TooManyJobs(ControlError):
    """The organization has as many jobs as it may have that have not ended."""


class NotCarriedOut(ControlError):
    """Possible by itself, but all or nothing was asked for."""


class NameTaken(ControlError):
    """Another campaign of the organization has this name."""


class IdempotencyKeyReused(ControlError):
    """The Idempotency-Key was sent with another request before."""


class RepeatUnreadable(ControlError):
    """The request was carried out before, but its answer cannot be read any more."""


class PreconditionRequired(ControlError):
    """A change of this kind needs If-Match."""


class PreconditionFailed(ControlError):
    """If-Match names another version than the current one."""

    def __init__(self, current: int) -> None:
        super().__init__(f"the current version is {current}")
        self.current = current


class EmailTaken(ControlError):
    """Another user of the organization has this email address."""


class LastAdmin(ControlError):
    """The organization would be left without an active admin."""


class TooManyRequests(ControlError):
    """A rate limit is used up; `retry_after` are the seconds to wait."""

    def __init__(self, sentence: str, retry_after: float) -> None:
        super().__init__(sentence)
        self.retry_after = retry_after


class Unavailable(ControlError):
    """An engine cannot be reached or is too busy; trying again later may succeed."""

    retry_after = "1"
    """Seconds."""


class RolledBack(Unavailable):
    """Postgres gave up what was asked, for the sake of another transaction; nothing of it holds."""


class DoorUnavailable(Unavailable):
    """No door has promised anything; what became of an event is not known."""

    def __init__(self, sentence: str, retry_after: str = "1") -> None:
        super().__init__(sentence)
        self.retry_after = retry_after


class TooManyEvents(ControlError):
    """The door takes no more events of this organization at this moment."""

    def __init__(self, sentence: str, retry_after: str) -> None:
        super().__init__(sentence)
        self.retry_after = retry_after


class EventRejected(ControlError):
    """The door refuses an event for good; `reason` is one of schemas.reasons.Rejected."""

    def __init__(self, sentence: str, reason: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class TooManyStreams(ControlError):
    """The organization follows as many campaigns as it may."""

    retry_after = "5"
