"""Jobs in a transaction."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import msgspec

from control_api.domain.job import Counts, FileFormat, ImportMode, Job, JobState, RowErrors
from control_api.domain.refusals import FieldError
from control_api.domain.snapshot import Cause
from control_api.handlers.job_ports import NameHolder
from control_api.stores.rows import to_json
from sql.load import postgres_queries

_jobs = postgres_queries("control_jobs")
_errors = msgspec.json.Decoder(tuple[FieldError, ...])
_FORGOTTEN_AT_ONCE = 10
_ERRORS_AT_ONCE = 2_000


class JobStore:
    """Implements handlers.job_ports.Jobs."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def add(self, job: Job) -> None:
        await _jobs.add_job(
            self._connection,
            id=job.id,
            organization_id=job.organization_id,
            format=job.format.value,
            mode=job.mode.value,
            dry_run=job.dry_run,
            created_by=job.created_by,
            actor=job.cause.actor,
            correlation_id=job.cause.correlation_id,
            traceparent=job.cause.traceparent,
            address=job.cause.address,
            created_at=job.created_at,
        )

    async def unfinished(self, organization_id: str) -> int:
        count: int = await _jobs.count_unfinished(self._connection, organization_id=organization_id)
        return count

    async def add_piece(self, job_id: str, number: int, content: bytes) -> None:
        await _jobs.add_piece(self._connection, job_id=job_id, number=number, content=content)

    async def piece(self, job_id: str, number: int) -> bytes | None:
        content: bytes | None = await _jobs.get_piece(self._connection, job_id=job_id, number=number)
        return content

    async def queue(self, job_id: str, size: int) -> bool:
        return _changed(await _jobs.queue_job(self._connection, id=job_id, size=size))

    async def drop_received(self, job_id: str) -> None:
        await _jobs.drop_received(self._connection, id=job_id)

    async def get(self, organization_id: str, job_id: str) -> Job | None:
        row = await _jobs.get_job(self._connection, id=job_id, organization_id=organization_id)
        return _job_from(row) if row else None

    async def lock(self, organization_id: str, job_id: str) -> Job | None:
        row = await _jobs.lock_job(self._connection, id=job_id, organization_id=organization_id)
        return _job_from(row) if row else None

    async def claim(self, lease: timedelta, now: datetime) -> Job | None:
        row = await _jobs.claim_job(self._connection, lease=lease, now=now)
        if row is None:
            return None
        job = _job_from(row)
        if job.dry_run:
            await _jobs.forget_errors(self._connection, job_id=job.id)
        return job

    async def renew(self, job: Job, lease: timedelta) -> bool:
        return _changed(await _jobs.renew_lease(self._connection, id=job.id, epoch=job.epoch, lease=lease))

    async def hold(self, job: Job) -> Job | None:
        row = await _jobs.hold_job(self._connection, id=job.id, epoch=job.epoch)
        return _job_from(row) if row else None

    async def set_total(self, job: Job, rows_total: int) -> bool:
        return _changed(
            await _jobs.count_rows(self._connection, id=job.id, epoch=job.epoch, rows_total=rows_total)
        )

    async def advance(self, job_id: str, next_row: int, counts: Counts, lease: timedelta) -> None:
        told = {name: getattr(counts, name) for name in Counts.__struct_fields__}
        await _jobs.advance_job(self._connection, id=job_id, next_row=next_row, lease=lease, **told)

    async def add_errors(self, job_id: str, errors: Sequence[RowErrors]) -> None:
        if errors:
            await _jobs.add_errors(
                self._connection,
                job_id=job_id,
                rows=[found.row for found in errors],
                lines=[found.line for found in errors],
                errors=[to_json(found.errors) for found in errors],
            )

    async def add_campaigns(self, job_id: str, campaign_ids: Collection[str]) -> None:
        if campaign_ids:
            await _jobs.add_campaigns(self._connection, job_id=job_id, ids=list(campaign_ids))

    async def campaigns(self, job_id: str, among: Collection[str]) -> set[str]:
        rows = _jobs.campaigns_of_job(self._connection, job_id=job_id, ids=list(among))
        return {str(row["campaign_id"]) async for row in rows}

    async def errors_after(self, job_id: str, row: int, most: int) -> list[RowErrors]:
        found = _jobs.errors_after(self._connection, job_id=job_id, row=row, most=most)
        return [RowErrors(line["row"], line["line"], _errors.decode(line["errors"])) async for line in found]

    async def finish(self, job_id: str, state: JobState, failure: str | None, now: datetime) -> None:
        await _jobs.finish_job(self._connection, id=job_id, state=state.value, failure=failure, now=now)
        await _jobs.drop_pieces(self._connection, job_id=job_id)
        await _jobs.drop_campaigns(self._connection, job_id=job_id)

    async def request_cancel(self, job_id: str) -> None:
        await _jobs.request_cancel(self._connection, id=job_id)

    async def forget(self, finished_before: datetime, received_before: datetime) -> bool:
        errors: str = await _jobs.forget_old_errors(
            self._connection, finished_before=finished_before, most=_ERRORS_AT_ONCE
        )
        if errors.endswith(f" {_ERRORS_AT_ONCE}"):
            return True
        status: str = await _jobs.forget_jobs(
            self._connection,
            finished_before=finished_before,
            received_before=received_before,
            most=_FORGOTTEN_AT_ONCE,
        )
        return status.endswith(f" {_FORGOTTEN_AT_ONCE}")

    async def names(self, organization_id: str, names: Sequence[str]) -> dict[str, NameHolder]:
        rows = _jobs.names(self._connection, organization_id=organization_id, names=list(names))
        return {
            row["name"]: NameHolder(
                row["key"], str(row["campaign_id"]) if row["campaign_id"] else None, row["campaign_name"]
            )
            async for row in rows
        }

    async def outbox_size(self, most: int) -> int:
        size: int = await _jobs.outbox_size(self._connection, most=most)
        return size


def _changed(status: Any) -> bool:
    return str(status).endswith(" 1")


def _job_from(row: asyncpg.Record) -> Job:
    return Job(
        id=str(row["id"]),
        organization_id=str(row["organization_id"]),
        state=JobState(row["state"]),
        format=FileFormat(row["format"]),
        mode=ImportMode(row["mode"]),
        dry_run=row["dry_run"],
        created_by=str(row["created_by"]),
        cause=Cause(
            row["actor"], row["correlation_id"], f"import {row['id']}", row["address"], row["traceparent"]
        ),
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        size=row["size"],
        rows_total=row["rows_total"],
        next_row=row["next_row"],
        counts=Counts(row["created"], row["updated"], row["unchanged"], row["failed"]),
        failure=row["failure"],
        epoch=row["epoch"],
        cancel_requested=row["cancel_requested"],
    )
