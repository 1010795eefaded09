"""How long the parts of a campaign may be that are lists: pages show many campaigns whole."""

from collections.abc import Iterator
from typing import Any

import msgspec

from control_api.domain.campaign import Content, Settings
from control_api.domain.refusals import FieldError
from control_api.domain.targeting import POINTER as RULES

MOST_BYTES = 64 << 10
"""Of targetingRules and settings together, as JSON: a page of 1,000 campaigns would have a GB without it."""

SETTINGS = "/settings"
_encoder = msgspec.json.Encoder()


def too_long(content: Content) -> Iterator[FieldError]:
    """Names the longest part when all of them together are too long."""
    bytes_together = _length(content.targeting_rules) + _length(content.settings)
    if bytes_together <= MOST_BYTES:
        return
    parts = {RULES: content.targeting_rules} | {
        f"{SETTINGS}/{field.encode_name}": getattr(content.settings, field.name) or None
        for field in msgspec.structs.fields(Settings)
    }
    longest = max(parts, key=lambda pointer: _length(parts[pointer]))
    together = "targetingRules and settings have at most 64 KiB of JSON together"
    yield FieldError(longest, f"{together}, not {bytes_together} bytes; this is the longest part of them")


def _length(part: Any) -> int:
    return len(_encoder.encode(part))
