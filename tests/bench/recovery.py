"""How long the stack takes to come back: `python -m tests.bench.recovery [--rate N] [--rounds N]`.

Under a client that sends again until it is answered: kill -9 of each process, kill -9 of everything with
`flightline up` itself and a new start on the same state, and SIGTERM while an engine is frozen. Recovered
means that an event sent after the fault was answered, that the ledger and ClickHouse have it with everything
that was promised by then, and that the control API is ready. At the end what was promised is compared with
what was counted.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import asyncpg
import clickhouse_connect
import psutil
from clickhouse_connect.driver.exceptions import ClickHouseError

from schemas.ids import new_id
from tests.e2e.replays import control_api, running_campaign
from tests.processes import frozen
from tests.running import RunningStack, free_port_base, running_stack, scratch

_BATCH = 20
_ENGINES = ("kafka", "postgres", "clickhouse")
_SERVICES = ("ingest", "aggregator", "control_api")
_GIVE_UP_S = 180.0


class Load:
    """A client at a steady rate. `answered` has of each batch when it was sent first, and when answered."""

    def __init__(self, campaign_id: str, rate: int) -> None:
        self.stack: RunningStack | None = None
        self.campaign_id = campaign_id
        self.answered: list[tuple[float, float]] = []
        self._pause = _BATCH / rate
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))
        self._batches: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        try:
            while True:
                task = asyncio.create_task(self._send())
                self._batches.add(task)
                task.add_done_callback(self._batches.discard)
                await asyncio.sleep(self._pause)
        finally:
            await asyncio.gather(*self._batches)
            await self._http.close()

    async def _send(self) -> None:
        sent = time.monotonic()
        events = [
            {"eventId": new_id(), "campaignId": self.campaign_id, "type": "IMPRESSION"} for _ in range(_BATCH)
        ]
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError, AssertionError):
                assert self.stack is not None
                key = {"X-Write-Key": self.stack.ready.write_key}
                url = f"{self.stack.ready.ingest}/v1/events"
                async with self._http.post(url, json=events, headers=key) as answer:
                    if answer.status == 202:
                        results = (await answer.json())["results"]
                        if all(result["status"] in ("accepted", "unbilled") for result in results):
                            self.answered.append((sent, time.monotonic()))
                            return
            await asyncio.sleep(0.2)

    def promised(self, before: float) -> int:
        """Events answered before a moment."""
        return _BATCH * sum(answered <= before for _, answered in self.answered)

    def answers(self, sent_after: float) -> bool:
        """Whether something sent after a moment has been answered."""
        return any(sent > sent_after for sent, _ in self.answered)


async def counted(stack: RunningStack, campaign_id: str) -> int:
    """In the ledger; -1 while it can't be asked."""
    try:
        connection = await asyncpg.connect(stack.ready.postgres, timeout=2)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return -1
    try:
        return int(
            await connection.fetchval(
                "SELECT impressions FROM ledger.accounts WHERE campaign_id = $1::uuid", campaign_id, timeout=2
            )
        )
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return -1
    finally:
        connection.terminate()


async def stored(stack: RunningStack, campaign_id: str) -> int:
    """In ClickHouse; -1 while it can't be asked."""
    try:
        async with asyncio.timeout(3):
            client = await clickhouse_connect.get_async_client(dsn=stack.ready.clickhouse)
            try:
                found = await client.query(
                    "SELECT count() FROM events WHERE campaign_id = {id:UUID}", parameters={"id": campaign_id}
                )
                return int(found.result_rows[0][0])
            finally:
                await client.close()
    except (OSError, TimeoutError, ClickHouseError, aiohttp.ClientError):
        return -1


async def is_ready(url: str) -> bool:
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as http,
            http.get(url) as answer,
        ):
            return answer.status == 200
    return False


async def recovered(stack: RunningStack, load: Load, fault: float) -> float:
    """Seconds from the fault until all is as before."""
    target = None
    while (since := time.monotonic() - fault) < _GIVE_UP_S:
        if target is None and load.answers(fault):
            target = load.promised(time.monotonic())
        if (
            target is not None
            and await counted(stack, load.campaign_id) >= target
            and await stored(stack, load.campaign_id) >= target
            and await is_ready(f"{stack.ready.control_api}/ready")
        ):
            return since
        await asyncio.sleep(0.1)
    raise SystemExit(f"not recovered within {_GIVE_UP_S:.0f} s; the state is in {stack.state}")


async def seconds_to_end(pid: int) -> float:
    """From SIGTERM to the end of the process."""
    process, began = psutil.Process(pid), time.monotonic()
    process.terminate()
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() - began > _GIVE_UP_S:
            return _GIVE_UP_S
        await asyncio.sleep(0.02)
    return time.monotonic() - began


def kill_all(stack: RunningStack) -> None:
    """As a power cut does it for processes: nothing has the time to do anything."""
    stack.process.send_signal(signal.SIGSTOP)
    everything = psutil.Process(stack.process.pid).children(recursive=True)
    for process in everything:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    stack.process.kill()
    stack.process.wait(10)


async def each_process(stack: RunningStack, load: Load) -> AsyncIterator[tuple[str, float]]:
    for name in (*_ENGINES, *_SERVICES):
        fault = time.monotonic()
        for pid in stack.ready.processes[name]:
            os.kill(pid, signal.SIGKILL)
        yield f"kill -9 {name}", await recovered(stack, load, fault)
        await asyncio.sleep(3)


async def each_stop(stack: RunningStack, load: Load) -> AsyncIterator[tuple[str, float]]:
    for service in _SERVICES:
        for engine in (None, *_ENGINES):
            with frozen(stack.ready.processes[engine] if engine else ()):
                await asyncio.sleep(1)  # what was under way has come to a stand
                seconds = await seconds_to_end(stack.ready.processes[service][0])
            fault = time.monotonic()
            yield f"SIGTERM {service}, {engine or 'nothing'} frozen: ended", seconds
            yield "    and recovered after that", await recovered(stack, load, fault)


async def run(rate: int, rounds: int) -> None:
    with scratch() as folder:
        state, base = folder / "state", free_port_base()
        with running_stack(state, port_base=base) as stack:
            async with control_api(stack) as api:
                campaign = await running_campaign(api, stack, "recovery", model="CPM", price="1")
            load = Load(campaign.id, rate)
            load.stack = stack
            sending = asyncio.create_task(load.run())
            await recovered(stack, load, time.monotonic())
            for _ in range(rounds):
                await show(each_process(stack, load))
            await show(each_stop(stack, load))
            kill_all(stack)
            stack.ready_file.unlink()
        fault = time.monotonic()
        with running_stack(state, port_base=base) as stack:
            load.stack = stack
            print(f"{'kill -9 of everything: `flightline up` ready':<64}{time.monotonic() - fault:6.1f} s")  # noqa: T201
            print(f"{'    and recovered':<64}{await recovered(stack, load, fault):6.1f} s")  # noqa: T201
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            await compare(stack, load, folder)


async def show(figures: AsyncIterator[tuple[str, float]]) -> None:
    async for what, seconds in figures:
        print(f"{what:<64}{seconds:6.1f} s", flush=True)  # noqa: T201  its output


async def compare(stack: RunningStack, load: Load, folder: Path) -> None:
    promised = load.promised(time.monotonic())
    ledger = rows = -1
    for _ in range(100):
        ledger, rows = await counted(stack, load.campaign_id), await stored(stack, load.campaign_id)
        if ledger == rows == promised:
            break
        await asyncio.sleep(0.3)
    print(f"promised {promised}, counted {ledger}, stored {rows}", folder)  # noqa: T201  its output
    if not ledger == rows == promised:
        raise SystemExit(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=400, help="events a second")
    parser.add_argument("--rounds", type=int, default=1, help="kills of each process")
    options = parser.parse_args()
    asyncio.run(run(options.rate, options.rounds))


if __name__ == "__main__":
    main()
