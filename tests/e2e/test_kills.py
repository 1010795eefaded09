"""kill -9 of aggregators and of ClickHouse in the middle of a replay changes no figure."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import clickhouse_connect
import pytest

from tests.e2e.replays import control_api, data_file, eventually, flightline, start
from tests.e2e.test_ipinyou import EXPECTED, MAPPING, figures_of, make_campaigns, stored_figures
from tests.running import RunningStack, running_stack, scratch

AGGREGATOR_KILLS = 20
CLICKHOUSE_KILLS = 5
LEAST_RECOVERED = 10
RATE = 200
"""Events a second of the replay that meets the kills: slow enough to outlast them on a slow machine. In the
end it is killed as well, and the file sent once more at full speed: what was sent counts once."""

# Owners that have billed what is in no block yet: it dies with them, and the next owner reads the log again.
BILLED_NOT_STORED = """
    SELECT p.owner FROM ledger.partitions p JOIN ledger.batches b USING (partition, incarnation, epoch)
    WHERE b.first_offset >= p.blocked_offset
"""
BLOCK_UNDER_WAY = "SELECT EXISTS (SELECT FROM ledger.blocks WHERE stored_at IS NULL)"
# Kills that left something behind: owners' epochs whose batches another epoch has stored.
EPOCHS_RECOVERED = """
    SELECT count(DISTINCT (b.partition, b.epoch)) FROM ledger.batches b
    JOIN ledger.blocks k ON k.partition = b.partition AND k.incarnation = b.incarnation
     AND b.first_offset >= k.first_offset AND b.first_offset < k.next_offset
    WHERE k.epoch > b.epoch
"""

pytestmark = pytest.mark.timeout(420)


@pytest.fixture(scope="module")
def two_aggregators() -> Iterator[RunningStack]:
    """A stack of this module's own: what it kills, nobody else uses."""
    with scratch() as folder, running_stack(folder / "state", "--aggregators", "2") as running:
        yield running


@contextlib.asynccontextmanager
async def ledger(stack: RunningStack) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(stack.ready.postgres)
    try:
        yield connection
    finally:
        await connection.close()


def process_of(owner: str) -> int:
    """The process id within an owner's name, `host:pid:random`."""
    return int(owner.split(":")[-2])


def kill(pid: int) -> bool:
    """Whether the process was there to be killed."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


async def kill_an_aggregator(stack: RunningStack, connection: asyncpg.Connection) -> None:
    """Kills one that has billed and not stored, as soon as there is one."""
    async with asyncio.timeout(60):
        while True:
            owners = {process_of(row["owner"]) for row in await connection.fetch(BILLED_NOT_STORED)}
            alive = owners & set(stack.ready.processes["aggregator"])
            if alive and kill(min(alive)):
                return
            await asyncio.sleep(0.02)


async def kill_clickhouse(stack: RunningStack, connection: asyncpg.Connection) -> None:
    """Kills it while a block is under way to it."""
    async with asyncio.timeout(60):
        while not (
            await connection.fetchval(BLOCK_UNDER_WAY) and kill(stack.ready.processes["clickhouse"][0])
        ):
            await asyncio.sleep(0.01)


async def test_kills_of_aggregators_and_of_clickhouse_in_the_middle_of_a_replay_change_no_figure(
    two_aggregators: RunningStack, tmp_path: Path
) -> None:
    seed = int.from_bytes(os.urandom(4))
    print(f"seed {seed}")  # noqa: T201  a failure is looked at with it
    chance = random.Random(seed)  # noqa: S311  moments, not secrets
    stack = two_aggregators
    promises = tmp_path / "promises"
    async with control_api(stack) as api, ledger(stack) as connection:
        campaigns = await make_campaigns(api, stack, tmp_path, {})
        file = data_file("ipinyou_impressions.csv.gz")
        command = ("replay", file, *MAPPING, "--campaign-map", tmp_path / "campaigns.json")
        command = (*command, "--promises", promises)
        replay = await start(*command, "--rate", str(RATE), stack=stack)
        kills = [kill_an_aggregator] * AGGREGATOR_KILLS + [kill_clickhouse] * CLICKHOUSE_KILLS
        chance.shuffle(kills)
        started = time.monotonic()
        for next_kill in kills:
            await asyncio.sleep(chance.uniform(1, 3))
            assert replay.returncode is None, "the replay ended before the last kill"
            await next_kill(stack, connection)
            print(f"{time.monotonic() - started:.1f} s: {next_kill.__name__}")  # noqa: T201
        replay.kill()
        await replay.wait()
        output = await flightline(*command, stack=stack)
        assert output.code == 0, output.text

        async def billed() -> bool:
            return await figures_of(api, campaigns) == EXPECTED

        await eventually(billed, 60, "all figures of the ledger")
        reconciled = await flightline("reconcile", "--promises", promises, "--timeout", "90", stack=stack)
        assert reconciled.code == 0, reconciled.text
        assert await stored_figures(stack, campaigns) == EXPECTED
        assert await projected_figures(stack, campaigns) == await row_figures(stack, campaigns)
        recovered = await connection.fetchval(EPOCHS_RECOVERED)
        assert recovered >= LEAST_RECOVERED, f"{recovered} owners died between billing and storing"


async def row_figures(stack: RunningStack, campaigns: dict[str, str]) -> list[tuple[object, ...]]:
    return await _figures(stack, campaigns, {"optimize_use_projections": 0})


async def projected_figures(stack: RunningStack, campaigns: dict[str, str]) -> list[tuple[object, ...]]:
    return await _figures(stack, campaigns, {"force_optimize_projection": 1})


async def _figures(
    stack: RunningStack, campaigns: dict[str, str], settings: dict[str, int]
) -> list[tuple[object, ...]]:
    client = await clickhouse_connect.get_async_client(dsn=stack.ready.clickhouse)
    try:
        result = await client.query(
            "SELECT toString(campaign_id) AS id, type, count(), sum(billed) FROM events"
            " WHERE campaign_id IN {ids:Array(UUID)} GROUP BY id, type ORDER BY id, type",
            parameters={"ids": list(campaigns.values())},
            settings=settings,
        )
    finally:
        await client.close()
    return [tuple(row) for row in result.result_rows]
