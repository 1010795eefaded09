"""What the end-to-end tests share: the data, the commands, campaigns in the stack."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import aiohttp
import msgspec
import pytest

from compose.demo.control import Campaign, ControlApi, pricing
from schemas.ids import new_id
from tests.running import RunningStack

DATA = Path(os.environ.get("FLIGHTLINE_DATA") or Path(__file__).parents[3] / "shared" / "data")
_POLL_S = 0.1


def data_file(name: str) -> Path:
    """A file of real event data; the test is skipped where there is none."""
    file = DATA / name
    if not file.exists():
        pytest.skip(f"{file} is missing: FLIGHTLINE_DATA names the folder of the data files")
    return file


class Output(msgspec.Struct, frozen=True):
    """How a command ended, and all that it printed."""

    code: int
    text: str


async def flightline(*arguments: str | Path, stack: RunningStack) -> Output:
    """Runs a command of `flightline` against the stack."""
    process = await start(*arguments, stack=stack, output=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return Output(process.returncode or 0, output.decode())


async def start(
    *arguments: str | Path, stack: RunningStack, output: int = asyncio.subprocess.DEVNULL
) -> asyncio.subprocess.Process:
    """Starts a command of `flightline`, to be killed by the test."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "compose.cli", *map(str, arguments), "--ready-file", str(stack.ready_file)),
        stdout=output,
        stderr=asyncio.subprocess.STDOUT if output == asyncio.subprocess.PIPE else output,
    )


@asynccontextmanager
async def control_api(stack: RunningStack) -> AsyncIterator[ControlApi]:
    async with ControlApi(stack.ready.control_api, stack.ready.admin_token) as api:
        yield api


async def running_campaign(
    api: ControlApi,
    stack: RunningStack,
    title: str,
    *,
    model: str = "EVENT",
    price: str = "0",
    budget: str | None = None,
) -> Campaign:
    """A campaign that runs from now on, of a name that no other test has; billed by the door."""
    draft = await api.create(
        f"{title} {new_id()}", pricing(model, price), None if budget is None else Decimal(budget)
    )
    campaign = await api.activate(draft.id, startNow=True)
    await until_served(stack, campaign.id)
    return campaign


async def until_served(stack: RunningStack, campaign_id: str) -> None:
    """Waits until the door obeys an activation. It does so within a second of the API's answer, not with it:
    what is sent in between is counted, and unbilled as the campaign's former status has it."""
    url = f"{stack.ready.ingest}/v1/serve"
    asked = {"params": {"campaigns": campaign_id}, "headers": {"X-Write-Key": stack.ready.write_key}}
    async with aiohttp.ClientSession() as session:

        async def is_served() -> bool:
            async with session.get(url, **asked) as answer:
                served: bool = (await answer.json())["campaigns"][campaign_id]["serve"]
                return served

        await eventually(is_served, 15, f"the door serves {campaign_id}")


async def eventually(condition: Callable[[], Awaitable[bool]], within_s: float, what: str) -> None:
    """Polls until the condition holds; fails the test when it does not in time."""
    async with asyncio.timeout(within_s) as bound:
        while not await condition():
            await asyncio.sleep(_POLL_S)
    assert not bound.expired(), what
