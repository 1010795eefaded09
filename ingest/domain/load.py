"""How much the door carries at once, and whose it is: one organization's flood leaves room for the others."""

from enum import Enum, auto

LEAST_BYTES = 16 * 1024
"""What a request counts at least: so many small ones are a load as well."""


class Room(Enum):
    """Whether there is room for more."""

    YES = auto()
    NOT_FOR_THIS_ORGANIZATION = auto()
    NOT_FOR_ANYBODY = auto()


class Load:
    """Bytes of the requests that have not been answered, by organization; never above `max_bytes`.

    While n organizations hold something, each may hold a share of 1/(n + 1): so there is a share left for
    whoever comes next. What an organization that holds nothing asks for it gets, if there is room at all.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._held: dict[str, int] = {}
        self.total = 0

    def take(self, organization_id: str, size: int) -> Room:
        """Counts so many bytes more for the organization, if there is room."""
        if self.total + size > self._max:
            return Room.NOT_FOR_ANYBODY
        held = self._held.get(organization_id, 0)
        if held and (held + size) * (len(self._held) + 1) > self._max:
            return Room.NOT_FOR_THIS_ORGANIZATION
        self._held[organization_id] = held + size
        self.total += size
        return Room.YES

    def give_back(self, organization_id: str, size: int) -> None:
        """So many bytes that were taken are free again."""
        self.total -= size
        left = self._held[organization_id] - size
        if left:
            self._held[organization_id] = left
        else:
            del self._held[organization_id]
