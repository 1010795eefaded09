"""Jobs as their organization sees them: received, looked at, cancelled."""

from collections.abc import AsyncIterator
from datetime import datetime

import msgspec

from control_api.domain.audit import entry_of
from control_api.domain.job import UNFINISHED, FileFormat, ImportMode, Job, JobState, RowErrors
from control_api.errors import JobFinished, NotFound, TooManyJobs, TooSlow, Unauthorized, Unavailable
from control_api.handlers.actor import Actor
from control_api.handlers.ports import Store, Unit
from schemas.ids import new_id

MOST_UNFINISHED = 20
"""Of an organization: their files are kept until they have ended."""

_PAGE = 1_000


class ImportRequest(msgspec.Struct, frozen=True):
    """What to do with a file."""

    format: FileFormat
    mode: ImportMode
    dry_run: bool


async def receive(store: Store, actor: Actor, asked: ImportRequest, now: datetime) -> Job:
    """A job whose file is still to come; nobody sees it until it is queued. Raises TooManyJobs.

    What was asked before with the same Idempotency-Key is not received again: see `queued_before`.
    """
    job = Job(
        id=new_id(),
        organization_id=actor.organization_id,
        format=asked.format,
        mode=asked.mode,
        dry_run=asked.dry_run,
        created_by=actor.user_id,
        cause=actor.cause(),
        created_at=now,
    )

    async def work(unit: Unit) -> None:
        # Locked, so that many at once do not all become the last one.
        if await unit.lock_organization(actor.organization_id) is None:
            raise Unauthorized("the token names an organization that does not exist")
        if await unit.jobs.unfinished(actor.organization_id) >= MOST_UNFINISHED:
            raise TooManyJobs(f"an organization has at most {MOST_UNFINISHED} imports at a time")
        await unit.jobs.add(job)

    await store.in_transaction(work)
    return job


async def add_piece(store: Store, job: Job, number: int, content: bytes) -> None:
    """Keeps a piece of a job's file."""

    async def work(unit: Unit) -> None:
        await unit.jobs.add_piece(job.id, number, content)

    await store.in_transaction(work)


async def queue(store: Store, job: Job, size: int, now: datetime) -> str:
    """The file is complete. Returns the id of the queued job: of a repeated request, the first one's."""

    async def work(unit: Unit) -> str:
        if not await unit.jobs.queue(job.id, size):
            raise TooSlow("the file took too long to be sent")
        told = {"format": job.format, "mode": job.mode, "dryRun": job.dry_run, "bytes": size}
        subject = ("job", job.id)
        await unit.audit(entry_of(job.cause, now, job.organization_id, "import.asked", subject, after=told))
        return job.id

    return await store.in_transaction(work)


async def queued_before(store: Store) -> str:
    """The id of the job that an earlier request has queued. `store` is the one of the repeated request, whose
    first transaction was `queue`: what that returned is returned again. Raises IdempotencyKeyReused."""

    async def work(unit: Unit) -> str:  # noqa: ARG001  only called when there is nothing to return
        raise Unavailable("the first answer to this request was forgotten at this moment")

    return await store.in_transaction(work)


async def drop(store: Store, job: Job) -> None:
    """Forgets a job that was not queued, with what was received of its file."""

    async def work(unit: Unit) -> None:
        await unit.jobs.drop_received(job.id)

    await store.in_transaction(work)


async def get(store: Store, actor: Actor, job_id: str, most: int) -> tuple[Job, list[RowErrors]]:
    """A job of the actor's organization, and the first rows that could not be applied. Raises NotFound."""

    async def work(unit: Unit) -> tuple[Job, list[RowErrors]]:
        job = await unit.jobs.get(actor.organization_id, job_id)
        if job is None:
            raise NotFound("there is no such job")
        return job, await unit.jobs.errors_after(job.id, -1, most)

    return await store.in_transaction(work)


async def errors(store: Store, actor: Actor, job_id: str) -> AsyncIterator[list[RowErrors]]:
    """All rows that could not be applied, page by page; the first page may be empty. Raises NotFound."""
    job, page = await get(store, actor, job_id, _PAGE)
    yield page
    while len(page) == _PAGE:
        after = page[-1].row

        async def work(unit: Unit, after: int = after) -> list[RowErrors]:
            return await unit.jobs.errors_after(job.id, after, _PAGE)

        page = await store.in_transaction(work)
        yield page


async def cancel(store: Store, actor: Actor, job_id: str, now: datetime) -> Job:
    """Ends a job after the rows under way; what was applied stays. Raises NotFound, JobFinished."""

    async def work(unit: Unit) -> Job:
        job = await unit.jobs.lock(actor.organization_id, job_id)
        if job is None:
            raise NotFound("there is no such job")
        if job.state not in UNFINISHED:
            raise JobFinished(f"the job is {job.state} already")
        if job.state is JobState.QUEUED:
            await unit.jobs.finish(job.id, JobState.CANCELLED, None, now)
        else:
            await unit.jobs.request_cancel(job.id)
        subject = ("job", job.id)
        await unit.audit(entry_of(actor.cause(), now, actor.organization_id, "import.cancelled", subject))
        return await unit.jobs.get(actor.organization_id, job_id) or job

    return await store.in_transaction(work)
