"""Processes that are stopped for a while under load: they neither answer nor close their connections."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from tests.faults import form
from tests.faults.conftest import Breakable
from tests.faults.scene import Scene, now, scene
from tests.processes import frozen
from tests.running import until

_SESSION_S = 6.0
"""FLIGHTLINE_SESSION_TIMEOUT_SECONDS: an aggregator that is silent for longer loses its partitions."""
_TAKEN_OVER_WITHIN_S = 60
_STARTED_WITHIN_S = 30
_OWNERS = "SELECT partition, owner FROM ledger.partitions WHERE owner NOT LIKE '%:' || $1 || ':%'"
pytestmark = pytest.mark.timeout(form.TIMEOUT_S)


@form.only_long
@pytest.mark.parametrize("engine", ["kafka", "postgres", "clickhouse"])
async def test_an_engine_stopped_for_a_while_loses_and_doubles_nothing(
    breakable: Breakable, engine: str, tmp_path: Path
) -> None:
    title = f"{engine} stopped for {form.OUTAGE_S:.0f} s"
    async with scene(breakable.stack, title, tmp_path) as under_load:
        with frozen(under_load.stack.ready.processes[engine]):
            await asyncio.sleep(form.OUTAGE_S)
        await under_load.recovered(now())


async def test_a_zombie_aggregator_woken_beyond_its_session_bills_and_stores_nothing_twice(
    breakable: Breakable, tmp_path: Path
) -> None:
    async with scene(
        breakable.stack, "an aggregator stopped beyond its session, woken", tmp_path
    ) as under_load:
        zombie = under_load.dice.choice(under_load.stack.ready.processes["aggregator"])
        since = now()
        with frozen([zombie]):
            await until_taken_over(under_load, zombie)
            await under_load.recovered(since)
        await under_load.recovered(now())


def aggregators(under_load: Scene) -> list[int]:
    return under_load.stack.ready.processes["aggregator"]


async def until_taken_over(under_load: Scene, pid: int) -> None:
    """Waits until the ledger knows other owners for all partitions."""
    connection = await asyncpg.connect(under_load.stack.ready.postgres)
    try:
        async with asyncio.timeout(_TAKEN_OVER_WITHIN_S):
            while len(await connection.fetch(_OWNERS, str(pid))) < 4:
                await asyncio.sleep(0.1)
    finally:
        await connection.close()


@form.only_long
async def test_aggregators_that_fight_for_partitions_bill_and_store_nothing_twice(
    breakable: Breakable, tmp_path: Path
) -> None:
    """Each in turn is away for a little longer than its session: a rebalance away from it, and one back."""
    turns = 10
    async with scene(breakable.stack, f"{2 * turns} rebalances under load", tmp_path) as under_load:
        for turn in range(turns):
            # One that finds itself replaced ends, and is started again.
            await asyncio.to_thread(
                until, lambda: len(aggregators(under_load)) == 2, _STARTED_WITHIN_S, "two"
            )
            with frozen([aggregators(under_load)[turn % 2]]):
                await asyncio.sleep(_SESSION_S * under_load.dice.uniform(1.0, 1.6))
            await under_load.pause(0, 2)
        await under_load.recovered(now())
