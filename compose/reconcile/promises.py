"""What the door has answered, as `flightline replay --promises` kept it, looked up while the log is read."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from aggregator.domain.rows import EventRow
from compose.errors import ComposeError
from compose.reconcile.differences import Differences, Place
from compose.reconcile.figures import Figures
from compose.replay.door import Status
from compose.replay.promises import Promise
from schemas.events import TrackingEvent
from schemas.reasons import EventType, PricingModel, Unbilled

_PROMISED = frozenset({Status.ACCEPTED.value, Status.UNBILLED.value})


class BadPromises(ComposeError):
    """A promises file can't be read."""


class _Kept(msgspec.Struct):
    promise: Promise
    where: str
    found: Place | None = None
    agrees: bool = False
    told: str = ""


class Promises:
    """All promises, about 500 bytes each: some millions fit in memory. The first answer to an id counts,
    as the first copy of an event in the log does."""

    def __init__(self, files: Iterable[Path], differences: Differences) -> None:
        self._kept: dict[bytes, _Kept] = {}
        self._differences = differences
        self._campaigns: set[str] = set()
        self.figures: dict[str, Figures] = {}
        for file in files:
            for line, promise in _read(file, differences):
                self._keep(promise, f"{file.name} line {line}")

    def check(
        self, event: TrackingEvent, place: Place, pricing: PricingModel | None, *, counted: bool
    ) -> None:
        """Takes in a copy of an event from the log; `counted` tells the first copy from its duplicates."""
        if event.campaign_id not in self._campaigns:
            return
        kept = self._kept.get(_key(event.campaign_id, event.event_id))
        if kept is None:
            if counted:
                self._differences.add(
                    "counted but not promised",
                    f"the log has {event.type}, no promise names it",
                    campaign_id=event.campaign_id,
                    place=place,
                )
            return
        kept.found = kept.found or place
        if not kept.agrees:
            kept.told = kept.told or _told(event)
            kept.agrees = _agrees(kept.promise, event, pricing)

    def check_row(self, row: EventRow, pricing: PricingModel | None) -> None:
        """Takes in a counted event from ClickHouse, where the log holds it no more."""
        event = TrackingEvent(
            event_id=row.event_id,
            organization_id=row.organization_id,
            campaign_id=row.campaign_id,
            type=EventType(row.type),
            received_at=row.received_at,
            occurred_at=row.occurred_at,
            currency=row.currency,
            budget_version=row.budget_version,
            billable=row.billable,
            cost=row.cost,
            reason=Unbilled(row.reason) if row.reason else None,
        )
        place = Place(row.partition, row.log_offset, row.event_index, row.event_id, row.incarnation)
        self.check(event, place, pricing, counted=True)

    def __bool__(self) -> bool:
        return bool(self._kept)

    def finish(self) -> None:
        """Reports promises that the log does not hold, or holds otherwise. Call once all of it was read."""
        for kept in self._kept.values():
            promise = kept.promise
            if kept.found is None:
                self._differences.add(
                    "promised but not in the log",
                    f"{kept.where}: eventId {promise.event_id}, {promise.type}, answered {promise.status}",
                    campaign_id=promise.campaign_id,
                )
            elif not kept.agrees:
                self._differences.add(
                    "promised otherwise than logged",
                    f"{kept.where}: {promise.type} {promise.status} {promise.reason} cost {promise.cost}; "
                    f"the log has {kept.told}",
                    campaign_id=promise.campaign_id,
                    place=kept.found,
                )

    def _keep(self, promise: Promise, where: str) -> None:
        if promise.status not in _PROMISED:
            return
        key = _key(promise.campaign_id, promise.event_id)
        if key in self._kept:
            return
        self._kept[key] = _Kept(promise, where)
        self._campaigns.add(promise.campaign_id)
        figures = self.figures.setdefault(promise.campaign_id, Figures())
        figures.count(promise.type, promise.reason)


def _key(campaign_id: str, event_id: str) -> bytes:
    return hashlib.blake2b(f"{campaign_id}\0{event_id}".encode(), digest_size=16).digest()


def _agrees(promise: Promise, event: TrackingEvent, pricing: PricingModel | None) -> bool:
    if promise.type is not event.type or (promise.status == Status.ACCEPTED) != event.billable:
        return False
    if not event.billable:
        return promise.reason == event.reason
    return pricing is not PricingModel.EVENT or promise.cost == event.cost


def _told(event: TrackingEvent) -> str:
    return f"{event.type} {'accepted' if event.billable else f'unbilled {event.reason}'} cost {event.cost}"


_decoder = msgspec.json.Decoder(Promise)


def _read(file: Path, differences: Differences) -> Iterator[tuple[int, Promise]]:
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    return  # cut off: its writer was killed, and sends that event again
                try:
                    yield number, _decoder.decode(line)
                except msgspec.MsgspecError as error:
                    differences.add("unreadable promise", f"{file.name} line {number}: {error}")
    except OSError as error:
        raise BadPromises(f"{file} can't be read: {error.strerror}.") from error
