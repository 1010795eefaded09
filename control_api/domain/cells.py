"""A campaign as a row of a table (CSV), and back.

Columns have the dotted names of the API's fields. A list is `a;b`, or JSON where its texts would not survive
that; what has structure is JSON. A text that a spreadsheet would take for a formula gets a `'` before it, as
does one that looks as if it had got it, so that reading loses nothing; and so does what stands behind a `;`
or a tab, at which spreadsheets of many countries begin a cell.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import Enum, auto
from typing import Any

import msgspec


class _Kind(Enum):
    TEXT = auto()
    WHOLE = auto()
    FLAG = auto()
    LIST = auto()
    JSON = auto()
    IGNORED = auto()
    """Only written: the service's own."""


_T, _W, _F, _L, _J, _I = _Kind
COLUMNS: dict[str, _Kind] = {
    "id": _T,
    "name": _T,
    "description": _T,
    "type": _T,
    "status": _I,
    "effectiveStatus": _I,
    "statusReason": _I,
    "startDate": _T,
    "endDate": _T,
    "currency": _I,
    "budget.amount": _T,
    "budget.currency": _T,
    "pendingBudget.amount": _I,
    "pendingBudget.currency": _I,
    "targetingRules": _L,
    "settings.targetAudience": _L,
    "settings.channels": _L,
    "settings.frequency": _T,
    "settings.maxImpressions": _W,
    "settings.budgetLimit.amount": _T,
    "settings.budgetLimit.currency": _T,
    "settings.pricing.model": _T,
    "settings.pricing.price.amount": _T,
    "settings.pricing.price.currency": _T,
    "settings.attribution.clickHours": _W,
    "settings.attribution.conversionDays": _W,
    "settings.frequencyCap.impressions": _W,
    "settings.frequencyCap.perHours": _W,
    "settings.landingHosts": _L,
    "settings.abTestSettings": _J,
    "settings.schedulingRules": _J,
    "settings.personalization.enabled": _F,
    "settings.personalization.rules": _L,
    "version": _I,
    "budgetVersion": _I,
    "acknowledgedThreshold": _I,
    "createdBy": _I,
    "createdAt": _I,
    "updatedBy": _I,
    "updatedAt": _I,
    "metrics.impressions": _I,
    "metrics.clicks": _I,
    "metrics.conversions": _I,
    "metrics.bounces": _I,
    "metrics.unsubscribes": _I,
    "metrics.revenue.amount": _I,
    "metrics.cost.amount": _I,
    "metrics.overdeliveryCost.amount": _I,
    "metrics.ctr": _I,
    "metrics.conversionRate": _I,
    "metrics.roas": _I,
    "metrics.roi": _I,
    "metrics.lastUpdated": _I,
}
"""In the order of an export. A file may leave columns out, and have them in any order."""

_STARTS = "[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
"""How formulas begin, in wide letters too."""

_BEGINS = "(?:^|(?<=[;\\t]))"
_FORMULA = re.compile(f"{_BEGINS}(?='*{_STARTS})")
_DEFUSED = re.compile(f"{_BEGINS}'(?='*{_STARTS})")
_NUMBER = re.compile(r"-?\d{1,18}")
_FLAGS = {"true": True, "false": False}
_SEPARATOR = ";"
_encoder = msgspec.json.Encoder(decimal_format="number")


def row_of(campaign: Mapping[str, Any]) -> list[str]:
    """The cells of a campaign in the API's shape (builtin types; decimals may be Decimal)."""
    return [_cell(_at(campaign, name), kind) for name, kind in COLUMNS.items()]


def document_of(columns: Sequence[str], cells: Sequence[str]) -> dict[str, Any]:
    """What a client would send for this row; an empty cell is a field that is left out.

    A cell that is not what its column holds stays a text, so that whoever reads the document names the field.
    """
    document: dict[str, Any] = {}
    for name, cell in zip(columns, cells, strict=True):
        kind = COLUMNS[name]
        if cell == "" or kind is _Kind.IGNORED:
            continue
        place = document
        *parents, last = name.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = _value(cell, kind)
    return document


def defused(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return _FORMULA.sub("'", text)


def undone(text: str) -> str:
    """The text before `defused`."""
    return _DEFUSED.sub("", text)


def _at(document: Mapping[str, Any], name: str) -> Any:
    value: Any = document
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _cell(value: Any, kind: _Kind) -> str:
    match value:
        case bool():
            text = "true" if value else "false"
        case int() | float() | Decimal():
            text = f"{value:f}" if isinstance(value, Decimal) else repr(value)
        case str():
            text = defused(value)
        case _ if not value:
            text = ""
        case _ if kind is _Kind.LIST:
            text = defused(_listed(value))
        case _:
            text = defused(_encoder.encode(value).decode())
    return text


def _listed(texts: Sequence[str]) -> str:
    plain = all(text and text == text.strip() and _SEPARATOR not in text for text in texts)
    if plain and not (texts and texts[0].startswith("[")):
        return _SEPARATOR.join(texts)
    return _encoder.encode(texts).decode()


def _value(cell: str, kind: _Kind) -> Any:
    text = undone(cell)
    if kind is _Kind.WHOLE and _NUMBER.fullmatch(text.strip()):
        return int(text)
    if kind is _Kind.FLAG:
        return _FLAGS.get(text.strip().lower(), text)
    if kind is _Kind.JSON or (kind is _Kind.LIST and text.startswith("[")):
        return _decoded(text)
    if kind is _Kind.LIST:
        return [part.strip() for part in text.split(_SEPARATOR)]
    return text


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text
