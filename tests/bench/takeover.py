"""Row 8: how long a new owner takes to know the ids that a partition has counted, when no file has them."""

import time
from pathlib import Path

from aggregator.app import clock_ms
from aggregator.clickhouse import ClickHouse
from aggregator.domain.lineage import Stretch
from aggregator.event_store import EventStore
from aggregator.ledger import Ledger
from aggregator.log_reader import LogReader
from aggregator.postgres import Claim, connect_pool
from aggregator.seen_ids import SeenIds
from aggregator.seen_recovery import SeenRecovery
from tests.bench.engines import DAY_MS, Engines, engines
from tests.bench.figures import Figure, Goal, Report
from tests.bench.form import Form
from tests.bench.settling import fill_and_settle

_EVENTS_A_RECORD = 100
_PARTITION = 0
_REBUILT_SECONDS = Goal(30, at_most=True)


async def rows(report: Report, form: Form) -> None:
    """A log that is settled, and then owners without a file, one after the other."""
    async with engines(form.campaigns) as world:
        await fill_and_settle(world, form.backlog, _EVENTS_A_RECORD)
        pool, clickhouse, reader = (
            await connect_pool(world.postgres, 2),
            ClickHouse(world.clickhouse),
            LogReader(world.kafka),
        )
        ledger, events = Ledger(pool), EventStore(clickhouse)
        try:
            found = await _rebuilt(form, world, ledger, reader, events)
        finally:
            await reader.stop()
            await clickhouse.close()
            pool.terminate()
    report.add(*found)


async def _rebuilt(
    form: Form, world: Engines, ledger: Ledger, reader: LogReader, events: EventStore
) -> list[Figure]:
    claim = await ledger.claim(_PARTITION, "the bench")
    last = await reader.record_at(_PARTITION, claim.next_offset - 1)
    from_log, from_clickhouse = [], []
    for number in range(form.runs):
        folder = world.folder / f"seen-{number}"
        recovery = SeenRecovery(folder, DAY_MS, "the bench", ledger, reader, events, clock_ms)
        started = time.perf_counter()
        await recovery.open(claim, [], last)
        from_log.append(time.perf_counter() - started)
        from_clickhouse.append(await _from_clickhouse(recovery, folder / "again", claim))
    count = f"{form.backlog / world.partitions / 1e6:.2g} M ids of one partition"
    return [
        Figure("8", f"{count} without a file, read from the log", "s", from_log, _REBUILT_SECONDS),
        Figure(
            "8", f"{count} without a file or a log, from ClickHouse", "s", from_clickhouse, _REBUILT_SECONDS
        ),
    ]


async def _from_clickhouse(recovery: SeenRecovery, folder: Path, claim: Claim) -> float:
    seen = SeenIds.open(folder, _PARTITION, 0, claim.epoch, claim.next_offset, clock_ms())
    whole = Stretch(0, 0, claim.next_offset)
    started = time.perf_counter()
    # What it does for an incarnation of which the log has nothing any more: nobody makes one for a bench.
    await recovery._from_clickhouse(seen, claim, whole, 0, clock_ms() - DAY_MS)  # noqa: SLF001
    return time.perf_counter() - started
