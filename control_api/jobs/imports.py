"""Works on imports, one row after the other. Any number of replicas may; a job has one of them at a time.

A job is claimed with a lease, so whatever happens to its worker, another one goes on. Each transaction takes
some rows, moves the job behind them and is fenced by the claim's epoch: every row is applied once.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import IO, TypeVar

import structlog

from control_api import metrics
from control_api.domain.job import MAX_ROWS, Job, JobState
from control_api.errors import NameTaken, Unavailable
from control_api.handlers.imports import LEASE, Apply, LeaseLost, LookAgain, ReadRow, finish
from control_api.handlers.ports import Clock, Store, Unit
from control_api.jobs.forgetting import forgetting
from control_api.jobs.import_rows import FileRow, read_row, rows_of
from control_api.jobs.json_items import BadFile

log = structlog.get_logger(__name__)
T = TypeVar("T")

_LOOK_SECONDS = 0.5
_RETRY_SECONDS = 1.0
_RENEW_SECONDS = 3.0
_BATCH_ROWS = 100
_BATCH_BYTES = 2 << 20
_MOST_CLAIMS = 20
_MOST_WAITING = 1_000
"""Records that wait for Kafka, above which an import waits: transitions of others are behind them."""

_WAIT_SECONDS = 0.1
_REST = 0.5
"""Of the time that rows took, for how long others have the process to themselves afterwards."""

_KEPT, _RECEIVED = timedelta(days=30), timedelta(hours=1)


async def run(store: Store, clock: Clock) -> None:
    """Works on whatever there is until cancelled."""
    while True:
        try:
            job = await _claim(store, clock)
            if job is None:
                await asyncio.sleep(_LOOK_SECONDS)
            else:
                await _work_on(store, clock, job)
        except Unavailable:
            await asyncio.sleep(_RETRY_SECONDS)


async def forget(store: Store, clock: Clock) -> None:
    """Forgets old jobs, and files that were never received to their end. Runs until cancelled."""

    async def work(unit: Unit) -> bool:
        return await unit.jobs.forget(clock() - _KEPT, clock() - _RECEIVED)

    await forgetting("imports", lambda: store.in_transaction(work))


async def _claim(store: Store, clock: Clock) -> Job | None:
    async def work(unit: Unit) -> Job | None:
        return await unit.jobs.claim(LEASE, clock())

    return await store.in_transaction(work)


async def _work_on(store: Store, clock: Clock, job: Job) -> None:
    log.info("import.claimed", job=job.id, epoch=job.epoch, row=job.next_row)
    try:
        async with _leased(store, job):
            state, failure = await _outcome(store, clock, job)
    except LeaseLost:
        log.warning("import.lost", job=job.id, epoch=job.epoch)
        return
    if await _insisting(_at(clock, partial(finish, store, job, state, failure))):
        metrics.IMPORTS.labels(state).inc()
        log.info("import.finished", job=job.id, state=state, failure=failure)


async def _outcome(store: Store, clock: Clock, job: Job) -> tuple[JobState, str | None]:
    """How the job ends. One that ends its workers is not begun for ever."""
    if job.epoch > _MOST_CLAIMS:
        return JobState.FAILED, f"the job was begun {_MOST_CLAIMS} times and never came to its end"
    try:
        async with _file_of(store, job) as file:
            return await _import(store, clock, job, file)
    except (LeaseLost, Unavailable):
        raise
    except Exception:
        log.exception("import.failed", job=job.id)
        return JobState.FAILED, "an unexpected error; it has been logged"


async def _import(store: Store, clock: Clock, job: Job, file: IO[bytes]) -> tuple[JobState, str | None]:
    """The file is read once before any row of it is applied: one that is broken, or too long, changes
    nothing."""
    if job.rows_total is None:
        try:
            total = await asyncio.to_thread(_count, file, job)
        except BadFile as error:
            return JobState.FAILED, str(error)
        await _insisting(partial(_set_total, store, job, total))
    apply = Apply(store, job)
    rows = _Rows(rows_of(file, job.format), job.next_row)
    one_by_one = 0
    clock_of_loop = asyncio.get_running_loop().time
    while batch := await asyncio.to_thread(rows.peek, 1 if one_by_one else _BATCH_ROWS):
        began = clock_of_loop()
        # An attempt at no row at all tells of a cancellation, or that the job is another worker's.
        waits = not job.dry_run and await _insisting(partial(_is_kafka_behind, store))
        try:
            applied = await _insisting(_at(clock, partial(apply, batch[:0] if waits else batch)))
        except LookAgain:
            await asyncio.sleep(_WAIT_SECONDS)
            continue
        except NameTaken:
            # Somebody takes one of the names at this moment, or rows swap theirs: each row by itself, then.
            if len(batch) > 1:
                one_by_one = len(batch)
                continue
            await _insisting(partial(apply.fail_taken, batch[0]))
            rows.drop_before(batch[0].row + 1)
        else:
            if applied.cancel_requested:
                return JobState.CANCELLED, None
            rows.drop_before(applied.next_row)
        one_by_one = max(0, one_by_one - (not waits))
        await asyncio.sleep(_WAIT_SECONDS if waits else (clock_of_loop() - began) * _REST)
    return JobState.SUCCEEDED, None


def _count(file: IO[bytes], job: Job) -> int:
    total = 0
    for _ in rows_of(file, job.format):
        total += 1
        if total > MAX_ROWS:
            raise BadFile(f"a file has at most {MAX_ROWS} campaigns")
    return total


class _Rows:
    """The rows of a file from one on, some at a time; read in a thread, one call after the other."""

    def __init__(self, rows: Iterator[FileRow], first: int) -> None:
        self._rows = enumerate(rows)
        self._first = first
        self._read: list[ReadRow] = []
        self._bytes: list[int] = []

    def peek(self, most: int) -> list[ReadRow]:
        """The next rows; they stay until `drop_before`."""
        while len(self._read) < most and sum(self._bytes) < _BATCH_BYTES:
            found = next(islice(self._rows, 1), None)
            if found is None:
                break
            number, row = found
            if number >= self._first:
                self._read.append(read_row(number, row))
                self._bytes.append(len(row.body))
        return self._read[:most]

    def drop_before(self, number: int) -> None:
        """Goes on at this row."""
        dropped = sum(row.row < number for row in self._read)
        del self._read[:dropped], self._bytes[:dropped]
        self._first = max(self._first, number)


async def _set_total(store: Store, job: Job, total: int) -> None:
    async def work(unit: Unit) -> bool:
        return await unit.jobs.set_total(job, total)

    if not await store.in_transaction(work):
        raise LeaseLost("somebody else works on the job")


async def _is_kafka_behind(store: Store) -> bool:
    async def work(unit: Unit) -> int:
        return await unit.jobs.outbox_size(_MOST_WAITING)

    return await store.in_transaction(work) >= _MOST_WAITING


@contextlib.asynccontextmanager
async def _file_of(store: Store, job: Job) -> AsyncIterator[IO[bytes]]:
    """The job's file, on this machine's disk for as long as it is worked on."""
    with tempfile.TemporaryFile() as file:
        number, size = 0, 0
        while (piece := await _insisting(partial(_piece, store, job, number))) is not None:
            file.write(piece)
            number, size = number + 1, size + len(piece)
        if size != job.size:
            raise LeaseLost("the file is gone: the job was ended")
        yield file


async def _piece(store: Store, job: Job, number: int) -> bytes | None:
    async def work(unit: Unit) -> bytes | None:
        return await unit.jobs.piece(job.id, number)

    return await store.in_transaction(work)


@contextlib.asynccontextmanager
async def _leased(store: Store, job: Job) -> AsyncIterator[None]:
    """Renews the lease while the block runs; LeaseLost in it once somebody else has the job."""
    working = asyncio.current_task()
    is_lost = False

    async def renew() -> None:
        nonlocal is_lost

        async def work(unit: Unit) -> bool:
            return await unit.jobs.renew(job, LEASE)

        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            with contextlib.suppress(Unavailable):
                if not await store.in_transaction(work):
                    is_lost = True
                    if working is not None:
                        working.cancel()
                    return

    renewing = asyncio.create_task(renew())
    try:
        yield
    except asyncio.CancelledError:
        if is_lost and working is not None:
            working.uncancel()
            raise LeaseLost("somebody else works on the job") from None
        raise
    finally:
        renewing.cancel()


def _at(clock: Clock, work: Callable[[datetime], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
    """An attempt at `work`, at the time of that attempt: Postgres may have been away for hours."""
    return lambda: work(clock())


async def _insisting(attempt: Callable[[], Awaitable[T]]) -> T:
    """Tries until Postgres answers. What it does can be repeated, and knows when the job is another one's."""
    while True:
        try:
            return await attempt()
        except Unavailable as error:
            log.info("import.waits", error=str(error))
            await asyncio.sleep(_RETRY_SECONDS)
