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


class TooSlow(ControlError):
    """A body was not sent in time."""


class UnsupportedMediaType(ControlError):
    """The body is encoded in a way that is not read here."""


class InvalidRequest(ControlError):
    """The request can be read, but fields have values that are not possible."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__("some fields are not valid")
        self.errors = tuple(errors)


class NameTaken(ControlError):
    """Another campaign of the organization has this name."""


class PreconditionRequired(ControlError):
    """A change of this kind needs If-Match."""


class PreconditionFailed(ControlError):
    """If-Match names another version than the current one."""

    def __init__(self, current: int) -> None:
        super().__init__(f"the current version is {current}")
        self.current = current


class Unavailable(ControlError):
    """Postgres cannot be reached or is too busy; trying again later may succeed."""
