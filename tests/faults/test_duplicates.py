"""Copies of events, and events that come late and out of order."""

import asyncio
from pathlib import Path

import asyncpg
import psutil
import pytest

from tests.faults import form
from tests.faults.conftest import Breakable
from tests.faults.inflict import kill
from tests.faults.scene import Scene, now, scene

_COPIES = 5
_STORM_S = 60.0 if form.LONG else 8.0
_DUPLICATES = "SELECT sum(duplicates) FROM ledger.accounts WHERE campaign_id = ANY($1::uuid[])"
pytestmark = pytest.mark.timeout(form.TIMEOUT_S)


async def test_a_storm_of_copies_through_all_doors_counts_each_event_once_while_doors_and_owners_are_killed(
    breakable: Breakable, tmp_path: Path
) -> None:
    title = f"each event sent {_COPIES} times through two doors, a door and an aggregator killed"
    async with scene(breakable.stack, title, tmp_path, requests_per_second=6, copies=_COPIES) as under_load:
        assert all(connections(under_load)), "no copies for one of the doors"
        for kind in ("aggregator", "ingest"):
            await under_load.pause(_STORM_S / 4, _STORM_S / 2)
            since = now()
            kill([under_load.dice.choice(under_load.stack.ready.processes[kind])])
            await under_load.recovered(since)
    connection = await asyncpg.connect(breakable.stack.ready.postgres)
    try:
        dropped = await connection.fetchval(_DUPLICATES, [campaign.id for campaign in under_load.campaigns])
    finally:
        await connection.close()
    assert dropped > (_COPIES - 2) * len(under_load.record.promised), "there was no storm"


def connections(under_load: Scene) -> list[int]:
    """How many connections each door has."""
    port = int(under_load.stack.ready.ingest.rpartition(":")[2])
    return [
        sum(
            c.laddr.port == port and c.status == "ESTABLISHED"
            for c in psutil.Process(pid).net_connections("tcp")
        )
        for pid in under_load.stack.ready.processes["ingest"]
    ]


@form.only_long
async def test_events_years_late_and_out_of_order_are_counted_once_and_stand_at_their_own_time(
    breakable: Breakable, tmp_path: Path
) -> None:
    title = "all events late and out of order, some by years, ClickHouse killed"
    async with scene(breakable.stack, title, tmp_path, late=1) as under_load:
        await asyncio.sleep(_STORM_S / 2)
        since = now()
        kill(under_load.stack.ready.processes["clickhouse"])
        await under_load.recovered(since)
