"""What rows of an import make of an organization's campaigns, some rows a transaction."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from msgspec import UNSET

from control_api.domain.account import Account
from control_api.domain.audit import entry_of
from control_api.domain.campaign import Campaign
from control_api.domain.content_rules import read_submission
from control_api.domain.importing import imported_content
from control_api.domain.job import Counts, ImportMode, Job, JobState, RowErrors
from control_api.domain.organization import Organization
from control_api.domain.refusals import FieldError, FieldsNotChangeable, InvalidCampaign
from control_api.domain.replacement import replace
from control_api.domain.submission import Replacement
from control_api.domain.texts import composed
from control_api.errors import ControlError
from control_api.handlers.campaigns import draft_by
from control_api.handlers.change import audit, publish, save
from control_api.handlers.job_ports import NameHolder
from control_api.handlers.ports import Store, Unit
from schemas.domain_events import DomainEventType
from schemas.ids import canonical_uuid, new_id
from schemas.reasons import CampaignStatus

LEASE = timedelta(seconds=10)
_NAME = "/name"
_TAKEN = FieldError(_NAME, "another campaign of the organization has this name")
_TAKEN_BY_ROW = FieldError(_NAME, "another row of this file is about the campaign that has this name")
_PAUSE_AFTER = 10


class ReadRow(msgspec.Struct, frozen=True):
    """A row of a file: what could be read of it, and what could not. `row` counts from 0."""

    row: int
    line: int
    submission: Replacement | None
    errors: tuple[FieldError, ...] = ()


class LeaseLost(ControlError):
    """Somebody else works on the job, or it was ended."""


class LookAgain(ControlError):
    """A campaign was renamed between the look for its name and its lock."""


class Applied(msgspec.Struct, frozen=True):
    """How far the job is after some rows."""

    next_row: int
    cancel_requested: bool = False


class Apply:
    """Applies rows of one job, in their order. A dry run remembers which names would be taken by now, and
    which campaigns its rows were about."""

    def __init__(self, store: Store, job: Job) -> None:
        self._store = store
        self._job = job
        self._would_be_taken: set[str] = set()
        self._about: set[str] = set()

    async def __call__(self, rows: Sequence[ReadRow], now: datetime) -> Applied:
        """Applies rows, maybe not all of them, in one transaction with the job's progress.

        A row that touches a campaign which a row before it has touched is left to the next transaction.
        Raises LeaseLost, LookAgain, Unavailable, and NameTaken when somebody takes a name at this moment.
        """
        job = self._job
        would_be_taken: set[str] = set()
        about: set[str] = set()

        async def work(unit: Unit) -> Applied:
            nonlocal would_be_taken, about
            held = await unit.jobs.hold(job)
            if held is None:
                raise LeaseLost("somebody else works on the job")
            if held.cancel_requested or not rows or held.next_row != rows[0].row:
                return Applied(held.next_row, held.cancel_requested)
            organization = await unit.organization(job.organization_id)
            if organization is None:
                raise LeaseLost("the organization is gone")
            would_be_taken, about = set(self._would_be_taken), set(self._about)
            part = _Part(unit, job, organization, would_be_taken, about, now)
            done = await part.apply(rows)
            next_row = rows[0].row + done
            await unit.jobs.add_errors(job.id, part.errors)
            await unit.jobs.advance(job.id, next_row, part.counts, LEASE)
            await unit.batch.flush()
            return Applied(next_row)

        applied = await self._store.in_transaction(work)
        if job.dry_run:
            self._would_be_taken, self._about = would_be_taken, about
        return applied

    async def fail(self, row: ReadRow, error: FieldError) -> None:
        """Notes a row that cannot be applied."""
        job = self._job

        async def work(unit: Unit) -> None:
            held = await unit.jobs.hold(job)
            if held is None:
                raise LeaseLost("somebody else works on the job")
            if held.next_row == row.row:
                await unit.jobs.add_errors(job.id, [RowErrors(row.row, row.line, (error,))])
                await unit.jobs.advance(job.id, row.row + 1, Counts(failed=1), LEASE)

        await self._store.in_transaction(work)

    async def fail_taken(self, row: ReadRow) -> None:
        """Notes a row whose name somebody has taken at this very moment."""
        await self.fail(row, _TAKEN)


async def finish(store: Store, job: Job, state: JobState, failure: str | None, now: datetime) -> bool:
    """Ends a claimed job; False when it was lost."""

    async def work(unit: Unit) -> bool:
        held = await unit.jobs.hold(job)
        if held is None:
            return False
        await unit.jobs.finish(job.id, state, failure, now)
        told = {"state": state, "failure": failure, "rows": held.next_row, "counts": held.counts}
        subject = ("job", job.id)
        await unit.audit(
            entry_of(job.cause, now, job.organization_id, "import.finished", subject, after=told)
        )
        return True

    return await store.in_transaction(work)


class _Part:
    """The rows of one transaction."""

    def __init__(
        self,
        unit: Unit,
        job: Job,
        organization: Organization,
        would_be_taken: set[str],
        about: set[str],
        now: datetime,
    ) -> None:
        self._unit = unit
        self._job = job
        self._organization = organization
        self._would_be_taken = would_be_taken
        self._about = about
        self._now = now
        self._names: dict[str, NameHolder] = {}
        self._taken: dict[str, str] = {}
        self._locked: dict[str, tuple[Campaign, Account]] = {}
        self._touched: set[str] = set()
        self.counts = Counts()
        self.errors: list[RowErrors] = []

    async def apply(self, rows: Sequence[ReadRow]) -> int:
        """Returns how many rows were applied, from the first on."""
        await self._look_up([row.submission for row in rows if row.submission is not None])
        for done, row in enumerate(rows):
            try:
                target = self._target(row)
                if target in self._touched:
                    break
                self.counts += await self._row(row, target)
            except (InvalidCampaign, FieldsNotChangeable) as refused:
                self.counts += Counts(failed=1)
                self.errors.append(RowErrors(row.row, row.line, refused.errors))
            if done % _PAUSE_AFTER == 0:
                await asyncio.sleep(0)
        else:
            done = len(rows)
        if self._is_upsert and not self._job.dry_run:
            await self._unit.jobs.add_campaigns(self._job.id, self._about)
        return done

    @property
    def _is_upsert(self) -> bool:
        return self._job.mode is ImportMode.UPSERT

    async def _look_up(self, submissions: Sequence[Replacement]) -> None:
        organization_id = self._job.organization_id
        names = sorted({_name(submission) for submission in submissions})
        self._names = await self._unit.jobs.names(organization_id, names)
        holders = [holder for holder in self._names.values() if holder.campaign_id is not None]
        self._taken = {holder.key: holder.campaign_id for holder in holders if holder.campaign_id}
        if not self._is_upsert:
            return
        if not self._job.dry_run:
            self._about |= await self._unit.jobs.campaigns(self._job.id, list(self._taken.values()))
        ids = {_id(submission) for submission in submissions} | set(self._taken.values())
        self._locked = await self._unit.batch.lock(organization_id, [found for found in ids if found])
        for holder in holders:
            found = self._locked.get(holder.campaign_id or "")
            if found is None or not _still_holds(found[0], holder):
                raise LookAgain("a campaign was renamed at this moment")

    def _target(self, row: ReadRow) -> str | None:
        """The campaign that the row is about: by its id, else by its name.

        A row whose id names nothing is of a campaign of its own: it is never taken for one that another row
        was about, as a running campaign for the cancelled one whose name it has again.
        """
        if row.submission is None or not self._is_upsert:
            return None
        by_id = _id(row.submission)
        if by_id in self._locked:
            return by_id
        by_name = self._taken.get(self._key(_name(row.submission)))
        if by_name in self._about and _has_id(row.submission):
            raise InvalidCampaign([_TAKEN_BY_ROW])
        return by_name

    async def _row(self, row: ReadRow, target: str | None) -> Counts:
        submission = row.submission
        if submission is None:
            raise InvalidCampaign(row.errors)
        if target is None:
            return await self._create(submission, row)
        return await self._update(submission, row, target)

    async def _create(self, submission: Replacement, row: ReadRow) -> Counts:
        content = imported_content(submission, self._organization, row.errors)
        key = self._key(content.name)
        if self._job.dry_run:
            return self._would_create(key, may_be_there=self._is_upsert and not _has_id(submission))
        if key in self._taken:
            raise InvalidCampaign([_TAKEN])
        job, batch = self._job, self._unit.batch
        campaign = draft_by(content, new_id(), job.organization_id, job.created_by, self._now)
        await batch.create_campaign(campaign)
        kinds = [DomainEventType.CREATED]
        await publish(batch, campaign, kinds, job.cause, self._now)
        await audit(batch, None, campaign, kinds, job.cause, self._now)
        self._taken[key] = campaign.id
        self._touched.add(campaign.id)
        self._about.add(campaign.id)
        return Counts(created=1)

    def _would_create(self, key: str, *, may_be_there: bool) -> Counts:
        if key in self._taken or (key in self._would_be_taken and not may_be_there):
            raise InvalidCampaign([_TAKEN])
        if key in self._would_be_taken:
            return Counts(updated=1)
        self._would_be_taken.add(key)
        return Counts(created=1)

    async def _update(self, submission: Replacement, row: ReadRow, target: str) -> Counts:
        before, account = self._locked[target]
        read = read_submission(submission, before.currency)
        after = replace(before, read, account, self._organization, now=self._now, unread=row.errors)
        if after == before:
            self._about.add(target)
            return Counts(unchanged=1)
        self._take_name(before, after)
        self._about.add(target)
        if self._job.dry_run:
            self._would_be_taken.add(self._key(after.name))
            return Counts(updated=1)
        await save(
            self._unit.batch,
            before=before,
            after=after,
            account=account,
            kind=DomainEventType.UPDATED,
            cause=self._job.cause,
            now=self._now,
            updated_by=self._job.created_by,
        )
        self._touched.add(target)
        return Counts(updated=1)

    def _take_name(self, before: Campaign, after: Campaign) -> None:
        """The name of a campaign that is cancelled counts for nothing."""
        if before.status is CampaignStatus.CANCELLED or after.name == before.name:
            return
        key = self._key(after.name)
        if self._taken.get(key, before.id) != before.id:
            raise InvalidCampaign([_TAKEN])
        self._taken = {name: holder for name, holder in self._taken.items() if holder != before.id}
        self._taken[key] = before.id

    def _key(self, name: str) -> str:
        """A name as names are compared."""
        holder = self._names.get(name)
        return holder.key if holder else name.lower()


def _name(submission: Replacement) -> str:
    """As it is kept; a text that Postgres cannot hold is nobody's name, and refused with its row."""
    name = composed(submission.name or "")
    return "" if "\0" in name else name


def _id(submission: Replacement) -> str | None:
    given = submission.id
    return canonical_uuid(given) if isinstance(given, str) else None


def _has_id(submission: Replacement) -> bool:
    return submission.id not in (UNSET, None, "")


def _still_holds(campaign: Campaign, holder: NameHolder) -> bool:
    return campaign.name == holder.campaign_name and campaign.status is not CampaignStatus.CANCELLED
