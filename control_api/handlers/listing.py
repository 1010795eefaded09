"""One page of a list of campaigns: filters, order, and the cursor that leads to the next page."""

import base64
import binascii
from datetime import datetime
from enum import StrEnum

import msgspec

from control_api.errors import MalformedRequest
from schemas.ids import canonical_uuid

MAX_PAGE = 1_000
DEFAULT_PAGE = 50


class SortKey(StrEnum):
    """What a list can be ordered by; a minus before it turns the order around."""

    NAME = "name"
    STATUS = "status"
    CREATED_AT = "createdAt"
    UPDATED_AT = "updatedAt"
    START_DATE = "startDate"
    END_DATE = "endDate"
    BUDGET = "budget"


class ListQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A filter that is None does not filter; several values of one are alternatives."""

    organization_id: str
    sort: SortKey = SortKey.UPDATED_AT
    descending: bool = True
    statuses: list[str] | None = None
    types: list[str] | None = None
    channels: list[str] | None = None
    pattern: str | None = None
    starts_after: datetime | None = None
    starts_before: datetime | None = None
    ends_after: datetime | None = None
    ends_before: datetime | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    updated_after: datetime | None = None
    after_key: str | None = None
    after_id: str | None = None
    page_size: int = DEFAULT_PAGE
    with_metrics: bool = False


def read_sort(text: str) -> tuple[SortKey, bool]:
    """The key, and whether the order falls. Raises MalformedRequest."""
    try:
        return SortKey(text.removeprefix("-")), text.startswith("-")
    except ValueError:
        keys = ", ".join(SortKey)
        raise MalformedRequest(f"sort is one of {keys}, with - before it for falling order") from None


def contains_pattern(text: str) -> str:
    """A LIKE pattern that finds `text` anywhere, whatever characters it has."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


class _Position(msgspec.Struct, frozen=True, array_like=True):
    sort: str
    key: str
    id: str


def write_cursor(sort: str, key: str, campaign_id: str) -> str:
    """A cursor that stands after this campaign in the order `sort`."""
    return (
        base64.urlsafe_b64encode(msgspec.json.encode(_Position(sort, key, campaign_id))).decode().rstrip("=")
    )


def read_cursor(cursor: str, sort: str) -> tuple[str, str]:
    """The sort key and id to go on after. Raises MalformedRequest for a cursor that is not of this list."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        position = msgspec.json.decode(
            base64.b64decode(padded, altchars=b"-_", validate=True), type=_Position
        )
    except (binascii.Error, UnicodeError, msgspec.MsgspecError) as error:
        raise MalformedRequest("cursor is not one of this list's") from error
    if position.sort != sort or canonical_uuid(position.id) is None or "\0" in position.key:
        raise MalformedRequest("cursor belongs to a list in another order")
    return position.key, position.id
