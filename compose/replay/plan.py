"""From a row of a file to events for the door. Pure: the same row gives the same events, ids included."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from compose.replay.errors import BadRow
from compose.replay.mapping import DATA_PREFIX, MONEY_FIELDS, TIME_FIELD, Column, Condition, decimal
from schemas.ids import canonical_uuid
from schemas.money import InvalidMoney, to_micros
from schemas.reasons import EventType

_MILLIS_FROM = 100_000_000_000
"""An epoch time from here on is in milliseconds: as seconds it would lie in the year 5138."""


class OutgoingEvent(msgspec.Struct, frozen=True, gc=False):
    """An event as it is sent: `body` is its JSON; `cost` is what the sender states, in micros."""

    event_id: str
    campaign_id: str
    type: EventType
    cost: int
    body: bytes


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says about a file.

    `campaign` is the id for all rows, unless `campaignId` is mapped: then `campaigns` translates the column's
    values to ids (with no table the values are ids). Rows of a value that is not in the table are not sent.
    """

    file_sha256: str
    type: EventType = EventType.IMPRESSION
    columns: Mapping[str, Column] = {}
    constants: Mapping[str, str] = {}
    also: tuple[Condition, ...] = ()
    campaign: str | None = None
    campaigns: Mapping[str, str] = {}


_encoder = msgspec.json.Encoder(decimal_format="number")


def events_of(plan: Plan, row: Mapping[str, Any], number: int) -> list[OutgoingEvent]:
    """The events of row `number`: none when its campaign is not in the table, else the row's own and one for
    each condition that holds. BadRow when the row can't be an event."""
    fields = {**plan.constants, **{f: v for f, c in plan.columns.items() if (v := c.value(row)) is not None}}
    campaign_id = _campaign(plan, fields.pop("campaignId", None))
    if campaign_id is None:
        return []
    event_type = _event_type(fields.pop("type", plan.type))
    given_id = fields.pop("eventId", None)
    shaped = _shape(fields)
    events = [_event(plan, campaign_id, event_type, given_id, number, shaped)]
    free = {field: value for field, value in shaped.items() if field not in MONEY_FIELDS}
    for condition in plan.also:
        if condition.holds(row):
            own_id = None if given_id is None else f"{given_id}:{condition.type}"
            events.append(_event(plan, campaign_id, condition.type, own_id, number, free))
    return events


def derived_event_id(campaign_id: str, file_sha256: str, number: int, event_type: EventType) -> str:
    """The id of a row that has none: the same whenever the file is replayed (a UUIDv8 of a SHA-256)."""
    digest = hashlib.sha256(f"{campaign_id}\n{file_sha256}\n{number}\n{event_type}".encode()).digest()
    value = int.from_bytes(digest[:16])
    value = value & ~(0xF << 76) | 8 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(UUID(int=value))


def _campaign(plan: Plan, value: Any) -> str | None:
    if value is None:
        if plan.campaign is None:
            raise BadRow("no campaign in this row")
        return plan.campaign
    if plan.campaigns:
        return plan.campaigns.get(str(value))
    return canonical_uuid(str(value)) or str(value)


def _event_type(value: Any) -> EventType:
    try:
        return EventType(str(value).upper())
    except ValueError:
        raise BadRow(f"{value!r} is not a type of event") from None


def _shape(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as the door takes them: money as an object, times as RFC 3339, `data.…` nested."""
    shaped: dict[str, Any] = {}
    data: dict[str, Any] = {}
    for field, value in fields.items():
        if field in MONEY_FIELDS:
            shaped[field] = {"amount": _amount(field, value)}
        elif field == TIME_FIELD:
            shaped[field] = _time(value)
        elif field.startswith(DATA_PREFIX):
            data[field.removeprefix(DATA_PREFIX)] = value
        else:
            shaped[field] = str(value)
    return {**shaped, "data": data} if data else shaped


def _amount(field: str, value: Any) -> Decimal:
    amount = decimal(value, field)
    try:
        micros = to_micros(amount)
    except InvalidMoney as error:
        raise BadRow(f"{field}: {error}") from None
    if micros < 0:
        raise BadRow(f"{field} is negative: {value}")
    return amount


def _time(value: Any) -> str:
    """Text as it stands; a number as seconds or milliseconds since 1970."""
    try:
        number = Decimal(str(value))
    except ArithmeticError:
        return str(value)
    try:
        seconds = float(number / 1000 if number >= _MILLIS_FROM else number)
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        raise BadRow(f"not a time: {value!r}") from None


def _event(
    plan: Plan,
    campaign_id: str,
    event_type: EventType,
    given_id: Any,
    number: int,
    fields: Mapping[str, Any],
) -> OutgoingEvent:
    if given_id is None:
        event_id = derived_event_id(campaign_id, plan.file_sha256, number, event_type)
    else:
        event_id = str(given_id)
    cost = to_micros(fields["cost"]["amount"]) if "cost" in fields else 0
    try:
        body = _encoder.encode({"eventId": event_id, "campaignId": campaign_id, "type": event_type, **fields})
    except UnicodeEncodeError:
        raise BadRow("the row is not UTF-8") from None
    return OutgoingEvent(event_id, campaign_id, event_type, cost, body)
