"""Row 8: how long a new owner takes to know the ids that a partition has counted, when no file has them."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import clickhouse_connect

from aggregator.app import clock_ms
from aggregator.clickhouse import ClickHouse
from aggregator.domain.lineage import Stretch
from aggregator.event_store import EventStore
from aggregator.ledger import Ledger
from aggregator.log_reader import LogReader
from aggregator.postgres import connect_pool
from aggregator.seen_ids import SeenIds
from aggregator.seen_recovery import SeenRecovery
from schemas.ids import new_id
from tests.bench.engines import DAY_MS, Engines, engines
from tests.bench.figures import Figure, Goal, Report
from tests.bench.footprint import DAY_OF_IDS
from tests.bench.form import Form
from tests.bench.settling import fill_and_settle
from tests.bench.stored_events import EVENTS_A_RECORD, fill, prepare, until_merged

_PARTITION = 0
_CAMPAIGNS = 10_000
_PROJECTIONS = ("by_quarter_hour", "by_day", "by_block")
"""Nothing of them is read here, and to make them for a day's rows takes longer than all else."""
_REBUILT_SECONDS = Goal(30, at_most=True)


async def rows(report: Report, form: Form) -> None:
    """A log that is settled, and then owners without a file; then a day of rows, and no log."""
    async with engines(form.campaigns) as world:
        await fill_and_settle(world, form.backlog, EVENTS_A_RECORD)
        async with _adapters(world) as (ledger, reader, events):
            report.add(await _from_log(form, world, ledger, reader, events))
    async with engines(0) as world:
        await _store_a_day(world, form.seen_ids)
        async with _adapters(world) as (ledger, reader, events):
            report.add(await _from_clickhouse(form, world, ledger, reader, events))


@asynccontextmanager
async def _adapters(world: Engines) -> AsyncIterator[tuple[Ledger, LogReader, EventStore]]:
    pool, clickhouse = await connect_pool(world.postgres, 2), ClickHouse(world.clickhouse)
    reader = LogReader(world.kafka)
    try:
        yield Ledger(pool), reader, EventStore(clickhouse)
    finally:
        await reader.stop()
        await clickhouse.close()
        pool.terminate()


async def _from_log(
    form: Form, world: Engines, ledger: Ledger, reader: LogReader, events: EventStore
) -> Figure:
    claim = await ledger.claim(_PARTITION, "the bench")
    last = await reader.record_at(_PARTITION, claim.next_offset - 1)
    ids, taken = form.backlog / world.partitions, []
    for number in range(form.runs):
        recovery = SeenRecovery(
            world.folder / f"seen-{number}", DAY_MS, "the bench", ledger, reader, events, clock_ms
        )
        started = time.perf_counter()
        await recovery.open(claim, [], last)
        taken.append(time.perf_counter() - started)
    return Figure(
        "8",
        f"{ids / 1e6:.2g} M ids of one partition without a file, read from the log",
        "ids/s",
        [ids / each for each in taken],
    )


async def _store_a_day(world: Engines, ids: int) -> None:
    client = await clickhouse_connect.get_async_client(dsn=world.clickhouse, send_receive_timeout=600)
    for projection in _PROJECTIONS:
        await client.command(f"ALTER TABLE events DROP PROJECTION {projection}")
    await prepare(client, [new_id() for _ in range(_CAMPAIGNS)])
    await fill(client, new_id(), datetime.now(UTC) - timedelta(days=1), 0, ids, days=1)
    await until_merged(client)
    await client.close()


async def _from_clickhouse(
    form: Form, world: Engines, ledger: Ledger, reader: LogReader, events: EventStore
) -> Figure:
    folder, claim = world.folder / "seen", await ledger.claim(_PARTITION, "the bench")
    recovery = SeenRecovery(folder, DAY_MS, "the bench", ledger, reader, events, clock_ms)
    ids = form.seen_ids // world.partitions
    whole = Stretch(0, 0, ids // EVENTS_A_RECORD + 1)
    seen = SeenIds.open(folder, _PARTITION, 0, claim.epoch, whole.next_offset, clock_ms())
    started = time.perf_counter()
    # What it does for an incarnation of which the log has nothing any more: nobody makes one for a bench.
    await recovery._from_clickhouse(seen, claim, whole, 0, clock_ms() - DAY_MS)  # noqa: SLF001
    taken = time.perf_counter() - started
    return Figure(
        "8",
        f"{ids / 1e6:.2g} M ids of one partition without a file or a log, from ClickHouse, which has "
        f"{form.seen_ids / 1e6:.0f} M of that day",
        "s",
        [taken],
        _REBUILT_SECONDS if form.seen_ids == DAY_OF_IDS else None,
        beside={"ids/s:": [ids / taken]},
    )
