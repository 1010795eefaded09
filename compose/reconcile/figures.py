"""The figures of one campaign as one source has them: the promises, the log, the ledger, ClickHouse."""

from collections import Counter

import msgspec

from schemas.reasons import EventType, Unbilled

COUNTS = {
    EventType.IMPRESSION: "impressions",
    EventType.CLICK: "clicks",
    EventType.CONVERSION: "conversions",
    EventType.BOUNCE: "bounces",
    EventType.UNSUBSCRIBE: "unsubscribes",
}
INVALID = {
    EventType.IMPRESSION: "invalid_impressions",
    EventType.CLICK: "invalid_clicks",
    EventType.CONVERSION: "invalid_conversions",
}


class Figures(msgspec.Struct):
    """Counts exclude duplicates; bots stand in `invalid_…` alone. Money is micros.

    `cost` is what billable events were to cost (a flat fee once): what is billed and what is overdelivery
    together. A source that can't know a figure leaves it None.
    """

    impressions: int = 0
    clicks: int = 0
    conversions: int = 0
    bounces: int = 0
    unsubscribes: int = 0
    invalid_impressions: int = 0
    invalid_clicks: int = 0
    invalid_conversions: int = 0
    unbilled: Counter[str] = msgspec.field(default_factory=Counter)
    duplicates: int | None = None
    revenue: int | None = None
    billed: int | None = None
    overdelivery: int | None = None
    cost: int | None = None

    @property
    def events(self) -> int:
        """All that were counted, bots too."""
        names = (*COUNTS.values(), *INVALID.values())
        return sum(getattr(self, name) for name in names)

    def count(self, event_type: EventType, reason: str, events: int = 1) -> None:
        """Adds events of one type; `reason` says why they are unbilled, empty when they are billable."""
        if reason == Unbilled.BOT:
            self._add(INVALID.get(event_type), events)
            return
        self._add(COUNTS[event_type], events)
        if reason:
            self.unbilled[reason] += events

    def _add(self, name: str | None, events: int) -> None:
        if name is not None:
            setattr(self, name, getattr(self, name) + events)
