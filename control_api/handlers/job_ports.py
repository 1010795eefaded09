"""What imports need of a transaction."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from control_api.domain.job import Counts, Job, JobState, RowErrors


class NameHolder(msgspec.Struct, frozen=True):
    """A name as names are compared (`key`), and the campaign that has it, if one does."""

    key: str
    campaign_id: str | None
    campaign_name: str | None


class Jobs(Protocol):
    """Jobs and their files. A worker is known by the epoch of its claim: whoever lost it changes nothing."""

    async def add(self, job: Job) -> None:
        """A job whose file is being received."""

    async def unfinished(self, organization_id: str) -> int:
        """How many jobs of the organization have not ended."""

    async def add_piece(self, job_id: str, number: int, content: bytes) -> None: ...

    async def piece(self, job_id: str, number: int) -> bytes | None: ...

    async def queue(self, job_id: str, size: int) -> bool:
        """The file is complete. False when the job is gone, since it was received for too long."""

    async def drop_received(self, job_id: str) -> None:
        """Drops a job that was not queued, with its file."""

    async def get(self, organization_id: str, job_id: str) -> Job | None: ...

    async def lock(self, organization_id: str, job_id: str) -> Job | None: ...

    async def claim(self, lease: timedelta, now: datetime) -> Job | None:
        """A job to work on, if there is one: the next in turn, or one whose worker let its lease run out."""

    async def renew(self, job: Job, lease: timedelta) -> bool:
        """False for whoever has lost the job."""

    async def hold(self, job: Job) -> Job | None:
        """Locks a claimed job, first in a transaction; None for whoever has lost it."""

    async def set_total(self, job: Job, rows_total: int) -> bool: ...

    async def advance(self, job_id: str, next_row: int, counts: Counts, lease: timedelta) -> None:
        """Adds to the counts of a job that is held."""

    async def add_errors(self, job_id: str, errors: Sequence[RowErrors]) -> None: ...

    async def add_campaigns(self, job_id: str, campaign_ids: Collection[str]) -> None:
        """Remembers until the job ends what its rows were about; what is there already may come again."""

    async def campaigns(self, job_id: str, among: Collection[str]) -> set[str]:
        """Which of these its rows were about."""

    async def errors_after(self, job_id: str, row: int, most: int) -> list[RowErrors]: ...

    async def finish(self, job_id: str, state: JobState, failure: str | None, now: datetime) -> None:
        """Also drops the file and what is remembered of its rows."""

    async def request_cancel(self, job_id: str) -> None: ...

    async def forget(self, finished_before: datetime, received_before: datetime) -> bool:
        """Forgets some old jobs; whether there may be more."""

    async def names(self, organization_id: str, names: Sequence[str]) -> dict[str, NameHolder]: ...

    async def outbox_size(self, most: int) -> int:
        """How many records wait for Kafka, counted up to `most`."""
