"""/api/v1/campaigns/import"""

import contextlib
from typing import Annotated

import msgspec
from litestar import Controller, post
from litestar.status_codes import HTTP_202_ACCEPTED

from control_api.domain.job import FileFormat, ImportMode, Job
from control_api.errors import MalformedRequest, Unavailable, UnsupportedMediaType
from control_api.handlers import jobs
from control_api.handlers.jobs import ImportRequest
from control_api.routes.file_docs import takes_file
from control_api.routes.job_views import JobIdView
from control_api.routes.reading import read_parameters
from control_api.routes.repeats import key_of, repeat_for
from control_api.routes.request import ApiRequest
from control_api.routes.responses import JsonResponse
from control_api.routes.services import Services
from control_api.routes.upload import Upload
from control_api.stores.once import Repeats

_FORMATS = {
    "text/csv": FileFormat.CSV,
    "application/x-ndjson": FileFormat.NDJSON,
    "application/ndjson": FileFormat.NDJSON,
    "application/jsonl": FileFormat.NDJSON,
    "application/json": FileFormat.JSON,
}
_FORMAT = "`csv`, `ndjson` or `json`; without it, what Content-Type says."
_MODE = "`create` refuses names that are there; `upsert` updates what has the row's id, or else its name."
_DRY_RUN = "Reads and validates everything, and only says what would happen."


class ImportParameters(msgspec.Struct, frozen=True, rename="camel"):
    """How to take the file."""

    format: Annotated[FileFormat | None, msgspec.Meta(description=_FORMAT)] = None
    mode: Annotated[ImportMode, msgspec.Meta(description=_MODE)] = ImportMode.CREATE
    dry_run: Annotated[bool, msgspec.Meta(description=_DRY_RUN)] = False


class ImportRoutes(Controller):
    """Campaigns from a file."""

    path = "/campaigns/import"
    tags = ("Import and export",)

    @post(
        "/",
        operation_class=takes_file(ImportParameters),
        status_code=HTTP_202_ACCEPTED,
        summary="Import campaigns",
        opt={"reads_parameters": True, "streams_body": True},
        request_max_body_size=None,
    )
    async def take(self, request: ApiRequest, services: Services) -> JsonResponse[JobIdView]:
        """Takes a file as export gives it, up to 64 MiB (also as gzip) and 100,000 campaigns, for a job."""
        given = read_parameters(ImportParameters, list(request.query_params.multi_items()))
        key = key_of(request)
        asked = ImportRequest(given.format or _format_of(request), given.mode, given.dry_run)
        upload = Upload(request)
        if key is not None and await _repeats(request).is_known(repeat_for(request, key, upload.digest)):
            # The job is there already: nothing of the file is kept, and it is not one more job.
            queued = await _queued_before(request, upload, key)
            headers = {"Location": f"/api/v1/jobs/{queued}", "Idempotent-Replayed": "true"}
            return JsonResponse(JobIdView(queued), status_code=HTTP_202_ACCEPTED, headers=headers)
        job = await jobs.receive(services.store, request.user, asked, services.clock())
        try:
            queued = await _received(request, services, job, upload, key)
        except BaseException:
            with contextlib.suppress(Unavailable):  # a job that nobody queued is forgotten an hour later
                await jobs.drop(services.store, job)
            raise
        headers = {"Location": f"/api/v1/jobs/{queued}"}
        if queued != job.id:
            headers["Idempotent-Replayed"] = "true"
            await jobs.drop(services.store, job)
        return JsonResponse(JobIdView(queued), status_code=HTTP_202_ACCEPTED, headers=headers)


async def _received(
    request: ApiRequest, services: Services, job: Job, upload: Upload, key: str | None
) -> str:
    """Takes the whole file and queues the job. Returns the id of the queued one: an earlier one when the
    request was sent before, with the same Idempotency-Key."""
    number = 0
    async for piece in upload.pieces():
        await jobs.add_piece(services.store, job, number, piece)
        number += 1
    if upload.size == 0:
        raise MalformedRequest("the request needs a file for a body")
    store = services.store
    if key is not None:
        store = _repeats(request).store(repeat_for(request, key, upload.digest))
    return await jobs.queue(store, job, upload.size, services.clock())


async def _queued_before(request: ApiRequest, upload: Upload, key: str) -> str:
    """Reads the file only to see whether it is the same one. Raises IdempotencyKeyReused."""
    async for _ in upload.pieces():
        pass
    repeats, repeat = _repeats(request), repeat_for(request, key, upload.digest)
    await repeats.answer(repeat)  # of another request all that there is may be its refusal
    return await jobs.queued_before(repeats.store(repeat))


def _repeats(request: ApiRequest) -> Repeats:
    repeats: Repeats = request.app.state.repeats
    return repeats


def _format_of(request: ApiRequest) -> FileFormat:
    told = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if told not in _FORMATS:
        raise UnsupportedMediaType(
            f"say with format, or with Content-Type, what the file is: {', '.join(FileFormat)}"
        )
    return _FORMATS[told]
