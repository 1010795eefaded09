"""How many requests a door answers: `python -m tests.bench.door_load --kafka HOST:PORT`.

Starts a door on its own, publishes campaigns and a key, and sends from connections that each wait for their
answer. The client shares the machine, so look at the requests per CPU-second of the door as well. With
`--freeze PID`, the pid of Kafka, the answers come from the spool; then it says how fast that is drained.
"""

import argparse
import asyncio
import os
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import cast

import msgspec
import uvloop

from schemas.ids import new_id
from tests.integration.door import Door, eventually, publishing, running_door
from tests.processes import frozen

_SPOOLED = "flightline_ingest_spool_events"
_TICKS = os.sysconf("SC_CLK_TCK")
_USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0.0.0 Safari/537.36"


def request(campaign_id: str, key: str, batch: int) -> bytes:
    """One POST with `batch` events of about 350 bytes."""
    events = [
        {
            "eventId": new_id(),
            "campaignId": campaign_id,
            "type": "IMPRESSION",
            "visitorId": "v-81523",
            "channel": "WEB",
            "variant": "a",
            "url": "https://shop.example/products/4711?ref=newsletter",
        }
        for _ in range(batch)
    ]
    body = msgspec.json.encode(events[0] if batch == 1 else events)
    head = (
        f"POST /v1/events HTTP/1.1\r\nHost: door\r\nX-Write-Key: {key}\r\nContent-Type: application/json\r\n"
        f"User-Agent: {_USER_AGENT}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Client(asyncio.Protocol):
    """One connection: sends the next request when the answer to the last has come."""

    def __init__(self, content: bytes, until: float, seconds: list[float]) -> None:
        self._content = content
        self._until = until
        self._seconds = seconds
        self._received = bytearray()
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._content)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        if head < 0:
            return
        length = self._received.lower().find(b"content-length: ")
        end = self._received.find(b"\r\n", length)
        if len(self._received) < head + 4 + int(self._received[length + 16 : end]):
            return
        assert self._received.startswith(b"HTTP/1.1 202"), bytes(self._received[:200])
        self._received.clear()
        now = time.perf_counter()
        self._seconds.append(now - self._sent)
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(error)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


async def measure(door: Door, content: bytes, connections: int, seconds: float, batch: int) -> str:
    """A line of figures."""
    taken: list[float] = []
    host, port = door.url.removeprefix("http://").split(":")
    cpu, started = cpu_seconds(door.process.pid), time.perf_counter()
    until = started + seconds
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: Client(content, until, taken), host, int(port)))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(client.ended for client in clients))
    wall, used = time.perf_counter() - started, cpu_seconds(door.process.pid) - cpu
    taken.sort()
    requests = len(taken)
    by_cpu = requests / used
    return (
        f"{batch:>4} events, {connections:>3} connections: {requests / wall:>8,.0f} requests/s, "
        f"{requests * batch / wall:>9,.0f} events/s; per CPU-second of the door "
        f"{by_cpu:>7,.0f} requests, {by_cpu * batch:>9,.0f} events; p50 {taken[requests // 2] * 1e3:.1f} ms, "
        f"p99 {taken[requests * 99 // 100] * 1e3:.1f} ms"
    )


async def run(kafka: str, seconds: float, freeze: int | None) -> None:
    folder = Path(tempfile.mkdtemp())
    async with publishing(kafka) as publisher, running_door(kafka, folder) as door:
        campaign, key = await publisher.campaign(), await publisher.key()
        event = {"campaignId": campaign.campaign_id, "type": "CLICK"}
        await eventually(lambda: door.send(event, key), lambda answer: answer[0] == 202)
        with frozen([freeze]) if freeze else nullcontext():
            if freeze:
                assert (await door.send(event, key))[0] == 202
            for batch, connections in ((1, 64), (1, 512), (100, 16), (100, 64)):
                content = request(campaign.campaign_id, key, batch)
                print(await measure(door, content, connections, seconds, batch))  # noqa: T201  its output
        if freeze:
            print(await measure_drain(door))  # noqa: T201  its output


async def measure_drain(door: Door) -> str:
    """How fast the spool is emptied."""
    events, size = await door.metric(_SPOOLED), await door.metric("flightline_ingest_spool_bytes")
    _, seconds = await eventually(lambda: door.metric(_SPOOLED), lambda held: not held, within=600)
    return f"drained {events:,.0f} events, {size / 1e6:,.0f} MB in {seconds:.1f} s: {events / seconds:,.0f}/s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--freeze", type=int)
    options = parser.parse_args()
    uvloop.run(run(options.kafka, options.seconds, options.freeze))


if __name__ == "__main__":
    main()
