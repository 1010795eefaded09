"""A stack that is ended hard and softly: it comes back by itself, and what was answered is counted once."""

import asyncio
import contextlib
import signal
import time
from pathlib import Path

import aiohttp
import asyncpg
import psutil
import pytest

from compose.demo.control import Campaign
from schemas.ids import new_id
from tests.e2e.replays import control_api, eventually, running_campaign
from tests.processes import frozen
from tests.running import RunningStack, free_port_base, running_stack, until

_EVENTS = 200
_WITHIN = 120.0
_ENDS_WITHIN = 40.0
"""Ten seconds are promised; the rest is for a machine that does other things as well. A process that waits
for a frozen engine waits until it is frozen no more."""

pytestmark = pytest.mark.timeout(600)


async def send(stack: RunningStack, campaign: Campaign) -> int:
    """Events until the door has answered for all of them, as an SDK sends; returns how many."""
    events = [{"eventId": new_id(), "campaignId": campaign.id, "type": "CLICK"} for _ in range(_EVENTS)]
    key = {"X-Write-Key": stack.ready.write_key}

    async def accepted() -> bool:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as http,
                http.post(f"{stack.ready.ingest}/v1/events", json=events, headers=key) as answer,
            ):
                return answer.status == 202
        return False

    await eventually(accepted, _WITHIN, "the door takes events")
    return _EVENTS


async def until_counted(stack: RunningStack, campaign: Campaign, clicks: int) -> None:
    async def are_counted() -> bool:
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection = await asyncpg.connect(stack.ready.postgres, timeout=5)
            try:
                statement = "SELECT clicks FROM ledger.accounts WHERE campaign_id = $1::uuid"
                found: int = await connection.fetchval(statement, campaign.id)
            finally:
                await connection.close()
            assert found <= clicks, "events were counted twice"
            return found == clicks
        return False

    await eventually(are_counted, _WITHIN, f"{clicks} clicks counted")


def running_aggregator(stack: RunningStack) -> int:
    """Its pid, also when it has ended by itself and is yet to be started again."""
    until(lambda: stack.ready.processes["aggregator"], _WITHIN, "an aggregator")
    return stack.ready.processes["aggregator"][0]


def terminate(pid: int) -> float:
    """SIGTERM; the seconds until the process has ended."""
    process, began = psutil.Process(pid), time.monotonic()
    process.terminate()
    until(
        lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, _ENDS_WITHIN, "its end"
    )
    return time.monotonic() - began


def kill_everything(stack: RunningStack) -> None:
    """Nothing has the time to do anything: the one that would start others again is stopped first."""
    stack.process.send_signal(signal.SIGSTOP)
    for process in psutil.Process(stack.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    stack.process.kill()
    stack.process.wait(10)
    stack.ready_file.unlink()


async def test_soft_and_hard_ends_lose_no_answered_event_and_count_none_twice(folder: Path) -> None:
    state, base = folder / "state", free_port_base()
    with running_stack(state, port_base=base) as stack:
        async with control_api(stack) as api:
            campaign = await running_campaign(api, stack, "endings")
        clicks = await send(stack, campaign)
        for engine in ("kafka", "postgres"):
            clicks += await send(stack, campaign)
            aggregator = await asyncio.to_thread(running_aggregator, stack)
            with frozen(stack.ready.processes[engine]):
                seconds = await asyncio.to_thread(terminate, aggregator)
                print(f"{engine} frozen: ended after {seconds:.1f} s")  # noqa: T201  a figure
            await until_counted(stack, campaign, clicks)
        clicks += await send(stack, campaign)
        kill_everything(stack)
        began = time.monotonic()
        with running_stack(state, port_base=base) as again:
            print(f"up again after {time.monotonic() - began:.1f} s")  # noqa: T201  a figure
            clicks += await send(again, campaign)
            await until_counted(again, campaign, clicks)
