"""What jobs show."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice

import msgspec

from control_api.domain.job import Counts, FileFormat, ImportMode, Job, JobState, RowErrors

SHOWN_ERRORS = 100


class JobIdView(msgspec.Struct, frozen=True, rename="camel"):
    """The answer to an import: where its job is."""

    job_id: str


class JobErrorView(msgspec.Struct, frozen=True):
    """What is wrong with a field of a row; `pointer` is a JSON pointer (`/budget/amount` is the column
    `budget.amount`), empty for the row as a whole. In an array of JSON `line` is the item's place."""

    line: int
    pointer: str
    detail: str


class ProgressView(msgspec.Struct, frozen=True):
    """Rows that are done, of all; `total` is null until the file has been read once."""

    rows: int
    total: int | None


class JobView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """An import. `counts` say what became of its rows; in a dry run, what would. `failure` is why it failed
    as a whole, `errors` holds the first 100 errors of rows, `errorsUrl` leads to all of them."""

    id: str
    state: JobState
    format: FileFormat
    mode: ImportMode
    dry_run: bool
    progress: ProgressView
    counts: Counts
    failure: str | None
    errors: list[JobErrorView]
    errors_url: str
    created_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


def job_view(job: Job, errors: Sequence[RowErrors]) -> JobView:
    """A job as shown."""
    return JobView(
        id=job.id,
        state=job.state,
        format=job.format,
        mode=job.mode,
        dry_run=job.dry_run,
        progress=ProgressView(job.next_row, job.rows_total),
        counts=job.counts,
        failure=job.failure,
        errors=list(islice(error_views(errors), SHOWN_ERRORS)),
        errors_url=f"/api/v1/jobs/{job.id}/errors",
        created_by=job.created_by,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )


def error_views(found: Sequence[RowErrors]) -> Iterator[JobErrorView]:
    """One for each field that is wrong."""
    for row in found:
        for error in row.errors:
            yield JobErrorView(row.line, error.pointer, error.detail)
