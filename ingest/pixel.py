"""The pixel's parameters as an event."""

import re
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from ingest.domain.decode import Decoded, decode_one
from ingest.domain.incoming import Refused
from schemas.reasons import Rejected

_NOT_FIELDS = frozenset({"key", "_", "cb"})
"""The key, and what trackers add so that no cache answers."""
_MAX_PARAMETERS = 64
_TIMES = frozenset({"occurredAt", "sentAt"})
_LOST_PLUS = re.compile(r" (\d\d:\d\d)$")
"""The plus of an offset that was not escaped: in a query it stands for a space."""


def event_of(query: str) -> Decoded:
    """The event in a query: fields by their names, `revenue=49.90&currency=EUR`, `data` as JSON."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS)
    except ValueError as error:
        return Refused(Rejected.MALFORMED, f"the parameters cannot be read: {error}")
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in _NOT_FIELDS:
            continue
        if name in fields:
            return Refused(Rejected.MALFORMED, f"{name[:80]} is given twice")
        fields[name] = value
    _put_money(fields)
    for name in _TIMES & fields.keys():
        fields[name] = _LOST_PLUS.sub(r"+\1", fields[name])
    if "data" in fields:
        fields["data"] = msgspec.Raw(fields["data"].encode())
    return decode_one(msgspec.json.encode(fields))


def _put_money(fields: dict[str, Any]) -> None:
    amounts = [name for name in ("revenue", "cost") if name in fields]
    currency = {"currency": fields.pop("currency")} if amounts and "currency" in fields else {}
    for name in amounts:
        fields[name] = {"amount": fields[name], **currency}
