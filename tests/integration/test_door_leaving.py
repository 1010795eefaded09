"""How a door leaves: behind a balancer that honours `/ready`, nobody notices."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import msgspec

from tests.integration.door import Door, eventually, free_port, publishing, read_log, running_door

GRACE_MS = 4_000
CHECK_SECONDS = 0.1


async def test_a_door_that_leaves_says_so_at_once_and_serves_until_the_grace_is_over(
    kafka: str, tmp_path: Path
) -> None:
    async with publishing(kafka) as publisher, running_door(kafka, tmp_path, grace_ms=str(GRACE_MS)) as door:
        campaign, key = await publisher.campaign(), await publisher.key()
        event = {"campaignId": campaign.campaign_id, "type": "CLICK"}
        await eventually(lambda: door.send(event, key), lambda answer: answer[0] == 202)
        started = time.monotonic()
        stopping = asyncio.create_task(asyncio.to_thread(door.stop))
        await eventually(lambda: door.status("/ready"), lambda status: status == 503)
        headers = {"X-Write-Key": key, "Content-Type": "application/json"}
        body = msgspec.json.encode({**event, "eventId": "late"})
        async with door.http.post(f"{door.url}/v1/events", data=body, headers=headers) as response:
            assert response.status == 202
            assert response.headers["Connection"] == "close", "who keeps a connection is balanced anew"
        assert await stopping == 0
        assert time.monotonic() - started >= GRACE_MS / 1000
        assert "late" in {line.event.event_id for line in await read_log(kafka, publisher.organization)}


class Balancer:
    """Sends to the doors that were ready when last asked, in turn."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self._next = 0
        self.ready: list[str] = []
        self.doors: list[str] = []

    async def ready_doors(self) -> int:
        """How many it sends to."""
        return len(self.ready)

    async def check(self) -> None:
        """Asks all doors, again and again."""
        while True:
            for url in self.doors:
                if not await self._is_ready(url):
                    self.ready = [one for one in self.ready if one != url]
                elif url not in self.ready:
                    self.ready = [*self.ready, url]
            await asyncio.sleep(CHECK_SECONDS)

    async def _is_ready(self, url: str) -> bool:
        try:
            async with self._http.get(f"{url}/ready") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def send(self, body: bytes, key: str) -> int:
        """The status of one request; 0 when the connection broke."""
        self._next += 1
        url = self.ready[self._next % len(self.ready)]
        headers = {"X-Write-Key": key, "Content-Type": "application/json"}
        try:
            async with self._http.post(f"{url}/v1/events", data=body, headers=headers) as response:
                await response.read()
                return response.status
        except aiohttp.ClientError:
            return 0


async def test_a_rolling_restart_of_two_doors_behind_a_balancer_fails_no_request(
    kafka: str, tmp_path: Path
) -> None:
    # The pool lets idle connections go before the doors do: a request must not meet one that is being closed.
    connector = aiohttp.TCPConnector(keepalive_timeout=2)
    async with (
        publishing(kafka) as publisher,
        aiohttp.ClientSession(connector=connector) as http,
        AsyncExitStack() as doors,
    ):
        campaign, key = await publisher.campaign(), await publisher.key()
        ports = [free_port(), free_port()]

        async def start(port: int) -> Door:
            door = await doors.enter_async_context(
                running_door(kafka, tmp_path, port=port, grace_ms=str(GRACE_MS))
            )
            event = {"campaignId": campaign.campaign_id, "type": "CLICK"}
            await eventually(lambda: door.send(event, key), lambda it: it[0] == 202, within=30)
            return door

        running = [await start(port) for port in ports]
        balancer = Balancer(http)
        balancer.doors = [door.url for door in running]
        checking = asyncio.create_task(balancer.check())
        await eventually(balancer.ready_doors, lambda ready: ready == 2, within=30)
        answers: dict[str, int] = {}
        sending = True

        async def client(name: int) -> None:
            number = 0
            while sending:
                number += 1
                event_id = f"rolling-{name}-{number}"
                event = {"campaignId": campaign.campaign_id, "type": "CLICK", "eventId": event_id}
                answers[event_id] = await balancer.send(msgspec.json.encode(event), key)

        clients = [asyncio.create_task(client(name)) for name in range(8)]
        for index, port in enumerate(ports):
            assert await asyncio.to_thread(running[index].stop) == 0
            await start(port)
            await eventually(balancer.ready_doors, lambda ready: ready == 2, within=30)
        sending = False
        await asyncio.gather(*clients)
        checking.cancel()
        assert set(answers.values()) == {202}
        logged = {line.event.event_id for line in await read_log(kafka, publisher.organization)}
        assert answers.keys() <= logged
