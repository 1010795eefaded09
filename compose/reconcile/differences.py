"""What does not agree, counted by kind, the first of each kind with its coordinates."""

from collections.abc import Iterator

import msgspec

_KEPT_OF_A_KIND = 3


class Place(msgspec.Struct, frozen=True, rename="camel"):
    """Where an event stands in `tracking-events`; `index` -1 for a record or a range as a whole. The
    incarnation is that of the log, 0 until one was cut back or replaced."""

    partition: int
    offset: int
    index: int
    event_id: str = ""
    incarnation: int = 0

    def __str__(self) -> str:
        event = f" eventId {self.event_id}" if self.event_id else ""
        index = f" index {self.index}" if self.index >= 0 else ""
        incarnation = f" incarnation {self.incarnation}" if self.incarnation else ""
        return f"partition {self.partition}{incarnation} offset {self.offset}{index}{event}"


class Difference(msgspec.Struct, frozen=True, rename="camel"):
    """One difference. `kind` is a short phrase that all of its like share."""

    kind: str
    detail: str
    campaign_id: str | None = None
    place: Place | None = None

    def __str__(self) -> str:
        campaign = f", campaign {self.campaign_id}" if self.campaign_id else ""
        place = f", {self.place}" if self.place else ""
        return f"{self.kind}{campaign}{place}: {self.detail}"


class Differences:
    """Collects them in bounded memory: all are counted, the first of each kind are kept."""

    def __init__(self) -> None:
        self._kept: dict[str, list[Difference]] = {}
        self.counts: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __iter__(self) -> Iterator[Difference]:
        for kept in self._kept.values():
            yield from kept

    def add(
        self, kind: str, detail: str, *, campaign_id: str | None = None, place: Place | None = None
    ) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        kept = self._kept.setdefault(kind, [])
        if len(kept) < _KEPT_OF_A_KIND:
            kept.append(Difference(kind, detail, campaign_id, place))
