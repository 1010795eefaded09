"""Jobs: the import of a file of campaigns, row by row."""

from datetime import datetime
from enum import StrEnum

import msgspec

from control_api.domain.refusals import FieldError
from control_api.domain.snapshot import Cause

MAX_ROWS = 100_000
MAX_FILE_BYTES = 64 << 20


class FileFormat(StrEnum):
    """How campaigns are written in a file."""

    CSV = "csv"
    NDJSON = "ndjson"
    JSON = "json"


class ImportMode(StrEnum):
    """What becomes of a row whose campaign is there already: refused, or an update of it."""

    CREATE = "create"
    UPSERT = "upsert"


class JobState(StrEnum):
    """Where a job is. SUCCEEDED: the file was read to its end, whatever became of single rows."""

    RECEIVING = "receiving"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNFINISHED = frozenset({JobState.RECEIVING, JobState.QUEUED, JobState.RUNNING})


class Counts(msgspec.Struct, frozen=True):
    """What became of the rows; in a dry run, what would."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    failed: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        names = Counts.__struct_fields__
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in names})


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """An import as it was asked for, and how far it has come. `next_row` counts from 0."""

    id: str
    organization_id: str
    state: JobState = JobState.RECEIVING
    format: FileFormat
    mode: ImportMode
    dry_run: bool
    created_by: str
    cause: Cause
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    size: int = 0
    rows_total: int | None = None
    next_row: int = 0
    counts: Counts = Counts()
    failure: str | None = None
    epoch: int = 0
    cancel_requested: bool = False


class RowErrors(msgspec.Struct, frozen=True):
    """What is wrong with a row (its place from 0, and its line in the file)."""

    row: int
    line: int
    errors: tuple[FieldError, ...]
