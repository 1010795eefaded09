"""Turning requests away before they cost anything, when the door carries as much as it can."""

from ingest import metrics
from ingest.domain.load import LEAST_BYTES, Load, Room
from ingest.errors import Refusal
from schemas.door_problems import OVER_SHARE, UNAVAILABLE

_HEADERS = [("retry-after", "1"), ("connection", "close")]
"""The connection makes room as well: there is a limit to their number, and a flood would keep its own."""


class Admission:
    """Admits requests while there is room for them."""

    def __init__(self, max_bytes: int) -> None:
        self._load = Load(max_bytes)
        metrics.LOAD_BYTES.set_function(lambda: self._load.total)

    def hold(self, organization_id: str) -> "Held":
        """Room for one request, until it is released. Raises Refusal with 429 or 503."""
        return Held(self._load, organization_id)


class Held:
    """What one request holds; `take` is called with every piece of its body, `release` in the end."""

    __slots__ = ("_load", "_organization", "_paid", "_size")

    def __init__(self, load: Load, organization_id: str) -> None:
        self._load = load
        self._organization = organization_id
        self._paid = 0
        self._size = 0
        self._pay(LEAST_BYTES)

    def release(self) -> None:
        """Gives all of it back, once."""
        paid, self._paid = self._paid, 0
        if paid:
            self._load.give_back(self._organization, paid)

    def take(self, size: int) -> None:
        """The request is so many bytes larger. Raises Refusal with 429 or 503."""
        self._size += size
        if self._size > self._paid:
            self._pay(self._size - self._paid)

    def _pay(self, size: int) -> None:
        room = self._load.take(self._organization, size)
        if room is Room.YES:
            self._paid += size
        elif room is Room.NOT_FOR_THIS_ORGANIZATION:
            raise Refusal(OVER_SHARE, "the organization has its share of the door in use", _HEADERS)
        else:
            raise Refusal(UNAVAILABLE, "the door carries as much as it can", _HEADERS)
