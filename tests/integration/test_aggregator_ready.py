"""An aggregator is ready once all of its partitions are claimed, however long that takes."""

import asyncio
import os
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import aiohttp
import asyncpg
import pytest

from compose.layout import HOST
from tests.integration.settling import Books, account, impression, until
from tests.running import free_port_base

PARTITION, OTHER_PARTITION = 2, 1
_CLAIM = "INSERT INTO ledger.partitions (partition, topic_id, owner) VALUES ($1, '', 'nobody')"

pytestmark = pytest.mark.timeout(240)


def few_files() -> None:
    """As many systems give to a process at first."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1_024, most))


@asynccontextmanager
async def aggregator(books: Books, folder: Path, port: int) -> AsyncIterator[tuple[Path, int]]:
    """A process of the aggregator; gives the file of its output, and its pid."""
    kafka, postgres, clickhouse = books.engines
    env = {
        **os.environ,
        "FLIGHTLINE_KAFKA": kafka,
        "FLIGHTLINE_POSTGRES": postgres,
        "FLIGHTLINE_CLICKHOUSE": clickhouse,
        "FLIGHTLINE_STATE": str(folder / "state"),
        "FLIGHTLINE_METRICS_BIND": f"{HOST}:{port}",
        "FLIGHTLINE_AGGREGATOR_GROUP": f"ready-{uuid4()}",
    }
    output = folder / "output"
    with output.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "aggregator",
            env=env,
            stdout=file,
            stderr=asyncio.subprocess.STDOUT,
            preexec_fn=few_files,
        )
    try:
        yield output, process.pid
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def status(port: int) -> int:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://{HOST}:{port}/ready") as answer:
            return answer.status
    except aiohttp.ClientError:
        return 0


async def test_a_claim_that_goes_on_in_the_background_keeps_the_process_from_being_ready(
    books: Books, tmp_path: Path
) -> None:
    port = free_port_base()
    other = await asyncpg.connect(books.engines[1])
    await other.execute(_CLAIM, PARTITION)
    lock = other.transaction()
    await lock.start()
    await other.execute("SELECT FROM ledger.partitions FOR UPDATE")
    async with aggregator(books, tmp_path, port) as (output, pid):

        async def goes_on_in_the_background() -> bool:
            answered = await status(port)
            assert answered != 200
            return "agents.still_claiming" in await asyncio.to_thread(output.read_text)

        await until(goes_on_in_the_background, "the claim has taken longer than Faust waits", within_s=150)
        assert await status(port) == 503
        campaign = await account(books.ledger)
        await books.log.write(OTHER_PARTITION, [impression(campaign, "of another partition")])

        async def other_partitions_are_billed() -> bool:
            return (await books.counted(campaign))[0] == 1

        await until(other_partitions_are_billed, "the partitions that are claimed go on")
        assert await status(port) == 503
        await lock.rollback()

        async def is_ready() -> bool:
            return await status(port) == 200

        await until(is_ready, "the process is ready once all is claimed")
        allowed, most = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        assert allowed == most or allowed >= 65_536, "a day of seen ids is a file for each 2^18 of them"
    await other.close()
