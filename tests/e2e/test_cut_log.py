"""Kafka's files put back from a copy: the log is shorter than the ledger, and all goes on by itself."""

import os
import shutil
from pathlib import Path

import asyncpg
import pytest

from compose.doctor import examine
from compose.layout import Ports, State
from tests.e2e.replays import control_api, eventually, flightline, running_campaign, until_served
from tests.running import RunningStack, free_port_base, running_stack, scratch

ROWS = 200

pytestmark = pytest.mark.timeout(600)


def rows_file(folder: Path, name: str) -> Path:
    file = folder / f"{name}.csv"
    file.write_text("id\n" + "".join(f"{name}-{n}\n" for n in range(ROWS)))
    return file


async def replay(stack: RunningStack, campaign: str, file: Path, promises: Path) -> None:
    arguments = ("--campaign", campaign, "--event-id", "id", "--set", "cost=0.003", "--promises", promises)
    output = await flightline("replay", file, *arguments, stack=stack)
    assert output.code == 0, output.text


async def reconciled(stack: RunningStack, promises: Path) -> str:
    output = await flightline("reconcile", "--promises", promises, "--timeout", "90", stack=stack)
    assert output.code == 0, output.text
    return output.text


async def figures(stack: RunningStack) -> tuple[int, int, int]:
    """Impressions, micros billed and duplicates of the only campaign."""
    connection = await asyncpg.connect(stack.ready.postgres)
    try:
        return tuple(await connection.fetchrow("SELECT impressions, billed, duplicates FROM ledger.accounts"))
    finally:
        await connection.close()


async def test_a_log_put_back_from_a_copy_loses_and_doubles_nothing_that_is_sent_again(
    tmp_path: Path,
) -> None:
    before, lost, later = (rows_file(tmp_path, name) for name in ("before", "lost", "later"))
    promises = tmp_path / "promises"
    with scratch() as folder:
        state, copy, ports = folder / "state", folder / "copy", free_port_base()
        kafka = State(state).data("kafka")
        with running_stack(state, port_base=ports) as stack:
            async with control_api(stack) as api:
                campaign = (await running_campaign(api, stack, "cut")).id
            await replay(stack, campaign, before, promises)
            await reconciled(stack, promises)
        shutil.copytree(kafka, copy, symlinks=True)
        with running_stack(state, port_base=ports) as stack:
            await until_served(stack, campaign)
            await replay(stack, campaign, lost, promises)
            await reconciled(stack, promises)
        shutil.rmtree(kafka)
        copy.rename(kafka)
        with running_stack(state, port_base=ports) as stack:
            await until_served(stack, campaign)
            await replay(stack, campaign, lost, promises)
            await replay(stack, campaign, later, promises)

            async def all_counted() -> bool:
                return await figures(stack) == (3 * ROWS, 3 * ROWS * 3_000, ROWS)

            await eventually(all_counted, 60, "each event is counted once")
            assert "goes on in another log since" in await reconciled(stack, promises)
            findings = await examine(State(state), Ports.from_base(ports), os.environ)
            (losses,) = [finding for finding in findings if finding.what == "losses"]
            assert losses.ok
            assert "ClickHouse lacks nothing" in losses.detail
