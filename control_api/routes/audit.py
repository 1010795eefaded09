"""/api/v1/audit"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from litestar import Controller, get
from litestar.response import Stream

from control_api.domain.audit import ChainedEntry
from control_api.domain.campaign import Moment
from control_api.errors import MalformedRequest
from control_api.handlers import audit_log
from control_api.handlers.audit_log import AuditQuery
from control_api.handlers.listing import DEFAULT_PAGE, MAX_PAGE
from control_api.routes.access_views import AuditPageView, audit_view
from control_api.routes.headers import next_link
from control_api.routes.openapi import documented
from control_api.routes.reading import read_parameters
from control_api.routes.request import ApiRequest
from control_api.routes.responses import JsonResponse
from control_api.routes.services import Services
from schemas.patterns import END

_NDJSON = "application/x-ndjson"
_Text = Annotated[str, msgspec.Meta(max_length=255, pattern="^[ -~]*" + END)]
_encoder = msgspec.json.Encoder(decimal_format="number")
_ACTOR = "A user's id, `key:ID`, or a part of the system."
_ACTION = "Such as `campaign.updated` or `login.failed`; repeated ones are alternatives."
_SUBJECT = "The id of what it was done to."
_CURSOR = "`nextCursor` of the page before, with the same filters."


class AuditFilters(msgspec.Struct, frozen=True, rename="camel"):
    """Which entries; `from` is inclusive, `to` is not."""

    actor: Annotated[_Text | None, msgspec.Meta(description=_ACTOR)] = None
    action: Annotated[tuple[_Text, ...], msgspec.Meta(description=_ACTION)] = ()
    subject: Annotated[_Text | None, msgspec.Meta(description=_SUBJECT)] = None
    since: Moment | None = msgspec.field(default=None, name="from")
    until: Moment | None = msgspec.field(default=None, name="to")


class AuditParameters(AuditFilters, frozen=True, rename="camel"):
    """Which page of entries."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE, description=f"1 to {MAX_PAGE}.")] = DEFAULT_PAGE
    cursor: Annotated[
        Annotated[str, msgspec.Meta(max_length=2_000)] | None, msgspec.Meta(description=_CURSOR)
    ] = None


class AuditRoutes(Controller):
    """What was done by whom."""

    path = "/audit"
    tags = ("Audit",)

    @get(
        "/",
        operation_class=documented(parameters=AuditParameters),
        summary="Search the audit log",
        opt={"reads_parameters": True},
    )
    async def search(self, request: ApiRequest, services: Services) -> JsonResponse[AuditPageView]:
        """Newest first; the next page is at the address in `Link`."""
        given = list(request.query_params.multi_items())
        asked = read_parameters(AuditParameters, given)
        query, log = _query(request, asked), services.access.audit_log
        page = await audit_log.page(log, query, asked.cursor, asked.limit)
        view = AuditPageView([audit_view(row) for row in page.items], page.next_cursor)
        return JsonResponse(view, headers=next_link(request, page.next_cursor))

    @get(
        "/export",
        operation_class=documented(parameters=AuditFilters, lines="AuditView"),
        summary="Export the audit log",
        opt={"reads_parameters": True},
        media_type=_NDJSON,
    )
    async def export(self, request: ApiRequest, services: Services) -> Stream:
        """All entries as lines of JSON, oldest first, as of the moment of the request. A body that breaks off
        before its end was cut short."""
        asked = read_parameters(AuditFilters, list(request.query_params.multi_items()))
        pages = audit_log.export(services.access.audit_log, _query(request, asked))
        # Before the answer begins: while Postgres is away it is a 503.
        lines = _lines(await anext(pages, []), pages)
        headers = {"Content-Disposition": 'attachment; filename="audit.ndjson"', "Cache-Control": "no-store"}
        return Stream(lines, media_type=_NDJSON, headers=headers)


async def _lines(first: list[ChainedEntry], pages: AsyncIterator[list[ChainedEntry]]) -> AsyncIterator[bytes]:
    yield _text(first)
    async for rows in pages:
        yield _text(rows)


def _text(rows: list[ChainedEntry]) -> bytes:
    return b"".join(_encoder.encode(audit_view(row)) + b"\n" for row in rows)


def _query(request: ApiRequest, asked: AuditFilters) -> AuditQuery:
    return AuditQuery(
        organization_id=request.user.organization_id,
        actor=asked.actor,
        actions=list(asked.action) or None,
        subject=asked.subject,
        since=_utc(asked.since),
        until=_utc(asked.until),
    )


def _utc(moment: datetime | None) -> datetime | None:
    """Postgres cannot subtract a minute from its first day."""
    if moment is None:
        return None
    try:
        utc = moment.astimezone(UTC)
    except OverflowError:
        raise MalformedRequest("a time lies outside the years 1 to 9999") from None
    return min(max(utc, _FIRST), _LAST)


_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime(9000, 1, 1, tzinfo=UTC)
