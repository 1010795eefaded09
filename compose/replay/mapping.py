"""How a column of a file becomes a field of an event: `FIELD=COLUMN`, optionally divided or multiplied.

visitorId=userid          a column, or a dotted path into an NDJSON row
cost=payprice/1000        a number, exact in decimals
data.sku=item.sku         a key of the event's `data`
"""

import re
from collections.abc import Mapping
from decimal import Decimal, DecimalException
from typing import Any

import msgspec

from compose.replay.errors import BadRow, InvalidOption
from schemas.reasons import EventType

TEXT_FIELDS = frozenset(
    {
        *("eventId", "campaignId", "type", "visitorId", "customerId", "clickId", "variant", "channel"),
        *("placement", "country", "url", "referrer", "userAgent"),
    }
)
MONEY_FIELDS = frozenset({"cost", "revenue"})
TIME_FIELD = "occurredAt"
DATA_PREFIX = "data."

_ARITHMETIC = re.compile(r"(?P<column>.+?)\s*(?P<operator>[*/])\s*(?P<number>\d+(?:\.\d+)?)")


class Column(msgspec.Struct, frozen=True):
    """Where a value stands in a row, and the number that it is divided by or multiplied with."""

    name: str
    operator: str = ""
    operand: Decimal = Decimal(1)

    def value(self, row: Mapping[str, Any]) -> Any:
        """The value in `row`; None where it is absent, null or empty. BadRow when it must be a number and
        is none."""
        found = _look_up(row, self.name)
        if found is None or found == "":
            return None
        if not self.operator:
            return found
        number = decimal(found, self.name)
        return number / self.operand if self.operator == "/" else number * self.operand


class Condition(msgspec.Struct, frozen=True):
    """A second event for each row whose column has a value: `CLICK:click=1`."""

    type: EventType
    column: str
    equals: str

    def holds(self, row: Mapping[str, Any]) -> bool:
        found = _look_up(row, self.column)
        return found is not None and str(found) == self.equals


def decimal(value: Any, name: str) -> Decimal:
    """`value` as an exact number; BadRow names the column when it is none."""
    try:
        number = Decimal(str(value).strip())
    except DecimalException:
        raise BadRow(f"{name} is not a number: {value!r}") from None
    if not number.is_finite():
        raise BadRow(f"{name} is not a finite number: {value!r}")
    return number


def parse_mapping(text: str) -> tuple[str, Column]:
    """`FIELD=COLUMN`, `FIELD=COLUMN/NUMBER` or `FIELD=COLUMN*NUMBER`. InvalidOption says what is wrong."""
    field, separator, expression = (part.strip() for part in text.partition("="))
    if not separator or not expression:
        raise InvalidOption(f"--map {text}: write FIELD=COLUMN, for example visitorId=user_id")
    require_field(field, f"--map {text}")
    match = _ARITHMETIC.fullmatch(expression)
    if match is None:
        return field, Column(expression)
    operand = Decimal(match["number"])
    if match["operator"] == "/" and operand == 0:
        raise InvalidOption(f"--map {text}: a division by zero")
    return field, Column(match["column"], match["operator"], operand)


def parse_constant(text: str) -> tuple[str, str]:
    """`FIELD=VALUE`: the same value in every event."""
    field, separator, value = text.partition("=")
    if not separator or not value:
        raise InvalidOption(f"--set {text}: write FIELD=VALUE, for example channel=EMAIL")
    require_field(field, f"--set {text}")
    return field, value


def parse_condition(text: str) -> Condition:
    """`TYPE:COLUMN=VALUE`."""
    match = re.fullmatch(r"(?P<type>\w+):(?P<column>[^=]+)=(?P<equals>.*)", text)
    if match is None or match["type"] not in EventType.__members__:
        types = ", ".join(EventType)
        raise InvalidOption(f"--also {text}: write TYPE:COLUMN=VALUE, the type one of {types}")
    return Condition(EventType(match["type"]), match["column"], match["equals"])


def require_field(field: str, option: str) -> None:
    """InvalidOption unless an event has such a field."""
    known = TEXT_FIELDS | MONEY_FIELDS | {TIME_FIELD}
    if field not in known and not (field.startswith(DATA_PREFIX) and len(field) > len(DATA_PREFIX)):
        raise InvalidOption(
            f"{option}: an event has no field {field!r}; it has {', '.join(sorted(known))}, data.KEY"
        )


def _look_up(row: Mapping[str, Any], name: str) -> Any:
    """The column of that name, else the dotted path."""
    if name in row:
        return row[name]
    value: Any = row
    for key in name.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value
