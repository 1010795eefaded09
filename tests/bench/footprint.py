"""Row 8: what is kept. Bytes an event in Kafka, ClickHouse and ledger; a day of seen ids, taken over."""

import asyncio
import gc
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import asyncpg
import clickhouse_connect

from aggregator.seen_ids import KEY_SIZE, SEAL_IDS, SeenIds
from schemas.events import INDEX_BITS, MAX_EVENTS_PER_RECORD
from tests.bench.engines import KEY, Engines, aggregator, door, engines
from tests.bench.figures import Figure, Goal, Report
from tests.bench.form import Form
from tests.bench.load import closed_loop
from tests.bench.machine import memory_mb
from tests.bench.traffic import Traffic

_TAKEOVER_SECONDS = Goal(5, at_most=True)
_MEMORY = Goal(500, at_most=True)
DAY_OF_IDS = 144_000_000
_AT = 1_800_000_000_000
_PARTITIONS = 4
_MARKED_AT_ONCE = 5_000
_LEDGER_BYTES = """
    SELECT sum(pg_total_relation_size(c.oid))::bigint
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'ledger' AND c.relkind = 'r' AND c.relname <> 'accounts'
"""
_ROWS_BYTES = """
    SELECT sum(bytes_on_disk) FROM system.parts
    WHERE active AND database = currentDatabase() AND table = 'events'
"""


async def rows(report: Report, form: Form) -> None:
    """Bytes first, then ids."""
    async with engines(form.campaigns) as world:
        figures = await _bytes(form, world)
    report.add(*figures)
    report.add(*await asyncio.to_thread(_in_a_process, form.seen_ids))


async def _bytes(form: Form, world: Engines) -> list[Figure]:
    before = _log_size(world)
    async with door(world) as service:
        requests = Traffic(world.campaigns, KEY, batch=10)
        answers = await closed_loop(
            service.address, requests, batch=10, connections=32, seconds=form.seconds * form.runs
        )
    answers.require_whole()
    log = _log_size(world) - before
    async with aggregator(world):
        await world.require_counted(answers.events)
    ledger = await asyncpg.connect(world.postgres)
    await ledger.execute("VACUUM FULL")
    kept = int(await ledger.fetchval(_LEDGER_BYTES))
    await ledger.close()
    client = await clickhouse_connect.get_async_client(dsn=world.clickhouse, send_receive_timeout=600)
    fresh = int((await client.query(_ROWS_BYTES)).result_rows[0][0])
    await client.command("OPTIMIZE TABLE events FINAL")
    merged = int((await client.query(_ROWS_BYTES)).result_rows[0][0])
    await client.close()
    found = {
        "Kafka, one replica": log,
        "ClickHouse with its projections, before merges": fresh,
        "ClickHouse with its projections, merged": merged,
        "the ledger without accounts": kept,
    }
    notes = f"{answers.events:,} events"
    return [
        Figure("8", f"storage in {name}", "bytes an event", [size / answers.events], notes=notes)
        for name, size in found.items()
    ]


def _log_size(world: Engines) -> int:
    """Bytes of the log's segments; their indexes are made in full beforehand."""
    return sum(
        file.stat().st_size for file in (world.folder / "state" / "kafka").rglob("tracking-events-*/*.log")
    )


def _in_a_process(ids: int) -> list[Figure]:
    """A new process has no memory of what was before."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_seen_ids, (ids,))


def _seen_ids(ids: int) -> list[Figure]:
    """A day of ids in four partitions, each with a table that is nearly full, as they are at their most."""
    goal = _MEMORY if ids == DAY_OF_IDS else None
    takeover = _TAKEOVER_SECONDS if ids == DAY_OF_IDS else None
    share = ids // _PARTITIONS // SEAL_IDS * SEAL_IDS + SEAL_IDS - 2 * _MARKED_AT_ONCE
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        held = [_filled(folder, partition, share) for partition in range(_PARTITIONS)]
        memory = memory_mb(os.getpid())
        for seen in held:
            seen.seal()
        del held, seen
        gc.collect()
        files = sum(file.stat().st_size for file in folder.rglob("*.seen"))
        opening = []
        for epoch in range(2, 7):
            started = time.perf_counter()
            SeenIds.open(folder, 0, 0, epoch, share // MAX_EVENTS_PER_RECORD, _AT)
            opening.append(time.perf_counter() - started)
    what = f"{share * _PARTITIONS / 1e6:.0f} M seen ids in {_PARTITIONS} partitions"
    return [
        Figure("8", f"{what}: a process that has nothing else", "MB", [memory], goal),
        Figure("8", f"{what}: files", "bytes an id", [files / share / _PARTITIONS]),
        Figure(
            "8",
            f"one partition of them taken over, {share / 1e6:.0f} M ids, from files in the page cache",
            "s",
            opening,
            takeover,
        ),
    ]


def _filled(folder: Path, partition: int, ids: int) -> SeenIds:
    seen = SeenIds.open(folder, partition, 0, 1, 0, _AT)
    records = _MARKED_AT_ONCE // MAX_EVENTS_PER_RECORD
    for first in range(0, ids // MAX_EVENTS_PER_RECORD, records):
        raw = os.urandom(KEY_SIZE * _MARKED_AT_ONCE)
        keys = [raw[n : n + KEY_SIZE] for n in range(0, len(raw), KEY_SIZE)]
        offsets = range(first, first + records)
        positions = [offset << INDEX_BITS | n for offset in offsets for n in range(MAX_EVENTS_PER_RECORD)]
        seen.mark(keys, positions, _AT)
    return seen
