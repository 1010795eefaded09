"""The client's own record: every event that it sent, and what was answered."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from compose.replay.promises import Promise
from schemas.reasons import EventType

_WHOLE = 20_000
"""So many of the newest events are kept as they were sent: some are sent again as copies."""
_TIMES = ("occurredAt", "sentAt")
_NO_BODY: dict[str, Any] = {}
_PROMISED = frozenset({"accepted", "unbilled"})


class Event(msgspec.Struct, eq=False):
    """One event as the client knows it. Times are of the monotonic clock; `cost` is what it states, in
    micros. `body` is what is sent, `malformed` when it is meant to be refused."""

    event_id: str
    campaign_id: str
    type: str
    cost: int
    body: dict[str, Any]
    offered_at: float
    malformed: bool = False
    attempts: int = 0
    answers: int = 0
    status: str = ""
    """Of the first answer; an answer without a status (a picture, 204) is "" and promises all the same."""
    reason: str = ""
    answered_at: float | None = None
    refusals: list[str] = []
    senders: int = 0
    """How many requests carry it now, or will do so again."""

    def answer(self, now: float, status: str, reason: str = "") -> None:
        """Takes in one of the door's answers to this event: `accepted`, `unbilled`, or "" for one of them."""
        self.answers += 1
        if self.answered_at is None:
            self.answered_at = now
        if not self.status and status:
            self.status, self.reason = status, reason

    def shrink(self) -> None:
        """Forgets what is no longer needed of an event that is answered and not sent again: there may be
        millions of them."""
        if self.promised and not self.senders:
            times = {name: self.body[name] for name in _TIMES if name in self.body}
            self.body = times or _NO_BODY

    @property
    def promised(self) -> bool:
        """Whether any answer was 2xx: from then on it must be counted, once."""
        return self.answered_at is not None


class Record:
    """All events of one client."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, event: Event) -> Event:
        self.events.append(event)
        if len(self.events) > _WHOLE:
            self.events[-_WHOLE].shrink()
        return event

    @property
    def promised(self) -> list[Event]:
        return [event for event in self.events if event.promised]

    @property
    def unanswered(self) -> list[Event]:
        """Of unknown outcome: each may be counted once, or not at all."""
        return [e for e in self.events if e.attempts and not e.promised and not e.malformed]

    @property
    def refused(self) -> list[Event]:
        """What the door refused though there is nothing wrong with it."""
        return [event for event in self.events if event.refusals and not event.malformed]

    def write_promises(self, file: Path, campaign_ids: Iterable[str]) -> Path:
        """The promises to these campaigns as `flightline reconcile` reads them."""
        wanted = set(campaign_ids)
        lines = [_promise(e) for e in self.promised if e.campaign_id in wanted]
        file.write_bytes(msgspec.json.Encoder().encode_lines(lines))
        return file


def _promise(event: Event) -> Promise:
    # Only campaigns without an end are sent to by ways that answer without a status: always billable.
    status = event.status or "accepted"
    return Promise(event.event_id, event.campaign_id, EventType(event.type), event.cost, status, event.reason)


def promises(status: str) -> bool:
    """Whether a status of the door is a promise."""
    return status in _PROMISED


def last_attempted(events: Sequence[Event]) -> Event | None:
    """The newest event that was sent at all."""
    return next((event for event in reversed(events) if event.attempts), None)
