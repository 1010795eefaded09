"""The query parameters of lists."""

from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec

from control_api.domain.campaign import CampaignType, Moment
from control_api.errors import MalformedRequest
from control_api.handlers.listing import (
    DEFAULT_PAGE,
    MAX_PAGE,
    ListQuery,
    SortKey,
    contains_pattern,
    read_cursor,
    read_sort,
)
from schemas.patterns import END
from schemas.reasons import CampaignStatus, Channel

_CURSOR = "`nextCursor` of the page before, with the same filters and order."
_Q = "A text that name or description contains, whatever its case."
_SORT = f"One of {', '.join(SortKey)}; with - before it for falling order."


class PageParameters(msgspec.Struct, frozen=True, rename="camel"):
    """Which page of a list that is not filtered."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE, description=f"1 to {MAX_PAGE}.")] = DEFAULT_PAGE
    cursor: Annotated[
        Annotated[str, msgspec.Meta(max_length=2_000)] | None,
        msgspec.Meta(description="`nextCursor` of the page before."),
    ] = None


class ListParameters(msgspec.Struct, frozen=True, rename="camel"):
    """Repeated parameters are alternatives; times are exclusive bounds."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE, description=f"1 to {MAX_PAGE}.")] = DEFAULT_PAGE
    cursor: Annotated[
        Annotated[str, msgspec.Meta(max_length=2_000)] | None, msgspec.Meta(description=_CURSOR)
    ] = None
    status: tuple[CampaignStatus, ...] = ()
    type: tuple[CampaignType, ...] = ()
    channel: tuple[Channel, ...] = ()
    q: Annotated[Annotated[str, msgspec.Meta(max_length=255)] | None, msgspec.Meta(description=_Q)] = None
    starts_after: Moment | None = None
    starts_before: Moment | None = None
    ends_after: Moment | None = None
    ends_before: Moment | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None
    updated_after: Moment | None = None
    sort: Annotated[str, msgspec.Meta(description=_SORT, pattern=rf"^-?({'|'.join(SortKey)}){END}")] = (
        "-updatedAt"
    )
    include: tuple[Literal["metrics"], ...] = ()


def list_query(parameters: ListParameters, organization_id: str) -> ListQuery:
    """The query that these parameters ask for. Raises MalformedRequest."""
    sort, descending = read_sort(parameters.sort)
    after_key, after_id = (
        read_cursor(parameters.cursor, parameters.sort) if parameters.cursor else (None, None)
    )
    return ListQuery(
        organization_id=organization_id,
        sort=sort,
        descending=descending,
        statuses=[status.value for status in parameters.status] or None,
        types=[kind.value for kind in parameters.type] or None,
        channels=[channel.value for channel in parameters.channel] or None,
        pattern=contains_pattern(parameters.q) if parameters.q else None,
        starts_after=_utc(parameters.starts_after),
        starts_before=_utc(parameters.starts_before),
        ends_after=_utc(parameters.ends_after),
        ends_before=_utc(parameters.ends_before),
        created_after=_utc(parameters.created_after),
        created_before=_utc(parameters.created_before),
        updated_after=_utc(parameters.updated_after),
        after_key=after_key,
        after_id=after_id,
        page_size=parameters.limit,
        with_metrics="metrics" in parameters.include,
    )


def _utc(moment: datetime | None) -> datetime | None:
    try:
        return None if moment is None else moment.astimezone(UTC)
    except OverflowError:
        raise MalformedRequest("a time lies outside the years 1 to 9999") from None
