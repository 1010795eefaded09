"""/api/v1/jobs"""

from collections.abc import AsyncIterator

import msgspec
from litestar import Controller, get, post
from litestar.response import Stream
from litestar.status_codes import HTTP_200_OK

from control_api.domain.job import RowErrors
from control_api.handlers import jobs
from control_api.routes.job_views import SHOWN_ERRORS, JobView, error_views, job_view
from control_api.routes.openapi import documented
from control_api.routes.request import ApiRequest, id_in_path
from control_api.routes.responses import JsonResponse
from control_api.routes.services import Services


class JobRoutes(Controller):
    """Imports under way, and what became of them. They are kept for 30 days."""

    path = "/jobs/{job_id:str}"
    tags = ("Import and export",)

    @get("/", operation_class=documented(), summary="Get a job")
    async def get_one(self, request: ApiRequest, services: Services, job_id: str) -> JsonResponse[JobView]:
        """How far it is, and the first 100 errors of its rows."""
        job, errors = await jobs.get(services.store, request.user, id_in_path(job_id), SHOWN_ERRORS)
        return JsonResponse(job_view(job, errors))

    @get(
        "/errors",
        operation_class=documented(lines="JobErrorView"),
        summary="Get all errors of a job",
        media_type="application/x-ndjson",
    )
    async def errors(self, request: ApiRequest, services: Services, job_id: str) -> Stream:
        """NDJSON, one line for each field of each row that is wrong."""
        found = jobs.errors(services.store, request.user, id_in_path(job_id))
        first = await anext(found)
        return Stream(_lines(first, found), media_type="application/x-ndjson")

    @post("/cancel", operation_class=documented(), status_code=HTTP_200_OK, summary="Cancel a job")
    async def cancel(self, request: ApiRequest, services: Services, job_id: str) -> JsonResponse[JobView]:
        """It ends after the rows that are being applied. What it has done until then stays."""
        job = await jobs.cancel(services.store, request.user, id_in_path(job_id), services.clock())
        return JsonResponse(job_view(job, []))


async def _lines(first: list[RowErrors], rest: AsyncIterator[list[RowErrors]]) -> AsyncIterator[bytes]:
    yield _page(first)
    async for page in rest:
        yield _page(page)


def _page(rows: list[RowErrors]) -> bytes:
    return b"".join(msgspec.json.encode(error) + b"\n" for error in error_views(rows))
