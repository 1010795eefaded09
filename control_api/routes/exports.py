"""/api/v1/campaigns/export"""

import csv
import io
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from decimal import Decimal
from typing import Annotated

import msgspec
from litestar import Controller, get
from litestar.response import Stream

from control_api.domain.campaign import CampaignType, Moment
from control_api.domain.cells import COLUMNS, row_of
from control_api.domain.job import FileFormat
from control_api.handlers.exports import Row, pages
from control_api.routes.file_docs import MEDIA_TYPES, gives_file
from control_api.routes.list_parameters import ListParameters, list_query
from control_api.routes.reading import read_parameters
from control_api.routes.request import ApiRequest
from control_api.routes.services import Services
from control_api.routes.views import campaign_view
from schemas.reasons import CampaignStatus, Channel

_FORMAT = "`csv`, one row a campaign; `ndjson`, one object a line; or `json`, one array."
_encoder = msgspec.json.Encoder(decimal_format="number")


class ExportParameters(msgspec.Struct, frozen=True, rename="camel"):
    """The filters of the list; the order is that of ids, which is that of creation."""

    format: Annotated[FileFormat, msgspec.Meta(description=_FORMAT)] = FileFormat.CSV
    status: tuple[CampaignStatus, ...] = ()
    type: tuple[CampaignType, ...] = ()
    channel: tuple[Channel, ...] = ()
    q: Annotated[str, msgspec.Meta(max_length=255)] | None = None
    starts_after: Moment | None = None
    starts_before: Moment | None = None
    ends_after: Moment | None = None
    ends_before: Moment | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None
    updated_after: Moment | None = None


class ExportRoutes(Controller):
    """Campaigns as a file."""

    path = "/campaigns/export"
    tags = ("Import and export",)

    @get(
        "/",
        operation_class=gives_file(ExportParameters),
        summary="Export campaigns",
        opt={"reads_parameters": True},
    )
    async def export(self, request: ApiRequest, services: Services) -> Stream:
        """All that the filters find, with metrics, as a stream. What import takes is what this gives."""
        given = read_parameters(ExportParameters, list(request.query_params.multi_items()))
        names = [name for name in ListParameters.__struct_fields__ if name in given.__struct_fields__]
        listed = ListParameters(**{name: getattr(given, name) for name in names})
        now = services.clock()
        found = pages(services.store, list_query(listed, request.user.organization_id))
        # The first page is read before the answer begins, so that it can still be an error.
        first = await anext(found)
        name = f"campaigns-{now:%Y%m%dT%H%M%SZ}.{given.format}"
        return Stream(
            _WRITERS[given.format](first, found, now),
            media_type=MEDIA_TYPES[given.format],  # Litestar adds the charset of a text
            headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
        )


async def _all(first: list[Row], rest: AsyncIterator[list[Row]]) -> AsyncIterator[list[Row]]:
    yield first
    async for page in rest:
        yield page


async def _csv(first: list[Row], rest: AsyncIterator[list[Row]], now: datetime) -> AsyncIterator[bytes]:
    yield _rows([COLUMNS])
    async for page in _all(first, rest):
        views = (campaign_view(campaign, account, now) for campaign, account in page)
        yield _rows(row_of(msgspec.to_builtins(view, builtin_types=(Decimal,))) for view in views)


def _rows(rows: Iterable[Iterable[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


async def _ndjson(first: list[Row], rest: AsyncIterator[list[Row]], now: datetime) -> AsyncIterator[bytes]:
    async for page in _all(first, rest):
        yield b"".join(_object(row, now) + b"\n" for row in page)


async def _json(first: list[Row], rest: AsyncIterator[list[Row]], now: datetime) -> AsyncIterator[bytes]:
    before = b"["
    async for page in _all(first, rest):
        if page:
            yield before + b",\n".join(_object(row, now) for row in page)
            before = b",\n"
    yield b"[]\n" if before == b"[" else b"]\n"


def _object(row: Row, now: datetime) -> bytes:
    campaign, account = row
    return _encoder.encode(campaign_view(campaign, account, now))


_Writer = Callable[[list[Row], AsyncIterator[list[Row]], datetime], AsyncIterator[bytes]]
_WRITERS: dict[FileFormat, _Writer] = {
    FileFormat.CSV: _csv,
    FileFormat.NDJSON: _ndjson,
    FileFormat.JSON: _json,
}
