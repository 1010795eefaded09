"""What can go wrong at the door."""

from ingest.http.message import Headers
from schemas.door_problems import UNAVAILABLE, DoorProblem


class DoorError(Exception):
    """The root of the door's errors."""


class SettingError(DoorError):
    """A setting is missing or contradictory; the sentence names its variable."""


class NotDurable(DoorError):
    """Events could not be made durable, or it is not known in time whether they are: send all again.

    `retry_after` is in seconds.
    """

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class NotConfirmed(DoorError):
    """Kafka did not confirm a record in time, or is away; it may have the record nevertheless."""


class SpoolRefused(DoorError):
    """The spool is full, or its disk refuses; the sentence says which. What it holds is safe."""


class SpoolCorrupt(DoorError):
    """The spool's file cannot be read any more."""


class Refusal(DoorError):
    """A request that is answered as a whole with a problem (RFC 9457)."""

    def __init__(self, problem: DoorProblem, detail: str, headers: Headers = ()) -> None:
        super().__init__(detail)
        self.problem = problem
        self.detail = detail
        self.headers = headers


def unavailable(detail: str, retry_after: int = 1) -> Refusal:
    """The same request will succeed a little later, after so many seconds perhaps."""
    return Refusal(UNAVAILABLE, detail, [("retry-after", str(retry_after))])
