"""Bad input over HTTP: raw sockets, kept open and pipelined, at a door that writes to a real Kafka."""

import asyncio
import random
import re
from collections import Counter
from pathlib import Path

import aiohttp
import msgspec
import psutil
import pytest

from aggregator.domain.batch import LogRecord, decode_batch
from schemas.events import SCHEMA_NAME, encode_events
from schemas.ids import new_id
from tests.faults.fuzz import cases
from tests.faults.fuzz.requests import Requests
from tests.integration.door import Door, eventually, publishing, read_log, running_door

_CONNECTIONS = 32
_ANSWER_S = 0.5
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_LAST = b"GET /health HTTP/1.1\r\nHost: door\r\nConnection: close\r\n\r\n"
"""Ends a connection whose requests were all understood."""
_GROWTH_MIB = 200
_MIB = 1024 * 1024
_MOST_CASES = 6
"""On one connection."""

pytestmark = pytest.mark.timeout(0 if cases.CASES else 300)


class Neighbour:
    """A client that does nothing wrong: each of its events must be taken, and stand in the log once."""

    def __init__(self, door: Door, key: str, campaign_id: str) -> None:
        self._door = door
        self._key = key
        self._campaign_id = campaign_id
        self.sent: list[str] = []

    async def run(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            while True:
                event = {"eventId": new_id(), "campaignId": self._campaign_id, "type": "CLICK"}
                async with session.post(
                    f"{self._door.url}/v1/events",
                    data=msgspec.json.encode(event),
                    headers={"X-Write-Key": self._key, "Content-Type": "application/json"},
                ) as response:
                    assert response.status == 202, await response.text()
                self.sent.append(event["eventId"])
                await asyncio.sleep(0.01)


async def test_no_request_however_wrong_crashes_the_door_or_costs_a_neighbour_an_event(
    kafka: str, tmp_path: Path
) -> None:
    dice = cases.dice("requests")
    async with publishing(kafka) as publisher, running_door(kafka, tmp_path) as door:
        campaign, key = await publisher.campaign(), await publisher.key()
        good = {"campaignId": campaign.campaign_id, "type": "CLICK"}
        await eventually(lambda: door.send(good, key), lambda answer: answer[0] == 202)
        requests = Requests(dice, bodies(campaign.campaign_id), key, campaign.campaign_id)
        process = psutil.Process(door.process.pid)
        before = process.memory_info().rss
        neighbour = Neighbour(door, key, campaign.campaign_id)
        beside = asyncio.create_task(neighbour.run())
        promised: list[str] = []
        seen = await send_all(door, requests, dice, promised)
        assert not beside.done(), beside.exception()
        beside.cancel()
        await asyncio.gather(beside, return_exceptions=True)
        assert door.process.poll() is None, "the door ended"
        assert await door.metric("flightline_ingest_unexpected_errors_total") == 0
        assert not {status for status in seen if status == 500 or status > 503}, seen
        grown = (process.memory_info().rss - before) / _MIB
        print(f"answers {dict(seen)}; the door grew by {grown:.0f} MiB")  # noqa: T201
        assert grown < _GROWTH_MIB
        lines = await read_log(kafka, publisher.organization)
    logged = Counter(line.event.event_id for line in lines)
    assert all(logged[event_id] == 1 for event_id in [*neighbour.sent, *promised])
    assert neighbour.sent
    assert promised
    records = [LogRecord(at, 0, SCHEMA_NAME, encode_events([line.event])) for at, line in enumerate(lines)]
    assert not decode_batch(0, 0, records).dead_letters


def bodies(campaign_id: str) -> list[bytes]:
    one = {"campaignId": campaign_id, "type": "IMPRESSION", "visitorId": "v", "data": {"a": [1, "\u00fc"]}}
    other = {"campaignId": campaign_id, "type": "CONVERSION", "revenue": {"amount": 4.9, "currency": "EUR"}}
    both = [msgspec.json.encode(one), msgspec.json.encode(other)]
    return [*both, b"[" + b",".join(both * 3) + b"]", b"\n".join(both * 3), b""]


async def send_all(door: Door, requests: Requests, dice: random.Random, promised: list[str]) -> Counter[int]:
    """The statuses of all answers; `promised` takes in the events of good requests that went first on a
    connection and were answered with 202."""
    numbers, seen = cases.numbers(), Counter[int]()
    host, port = door.url.removeprefix("http://").split(":")

    async def connection() -> None:
        for _ in numbers:
            event_id, first = requests.good() if dice.random() < 0.2 else ("", b"")
            group = [first, requests.make()]
            while dice.random() < 0.7 and len(group) < _MOST_CASES and next(numbers, None) is not None:
                group.append(requests.make())
            answer = await exchange(host, int(port), b"".join([*group, _LAST]), ends=dice.random() < 0.3)
            statuses = [int(status) for status in _STATUS.findall(answer)]
            seen.update(statuses)
            if event_id and statuses[:1] == [202]:
                promised.append(event_id)

    await asyncio.gather(*(connection() for _ in range(_CONNECTIONS)))
    return seen


async def exchange(host: str, port: int, content: bytes, *, ends: bool) -> bytes:
    """All that the door answers until it closes, or has nothing more to say; with `ends` the client closes
    its side at once."""
    reader, writer = await asyncio.open_connection(host, port)
    answer = b""
    try:
        writer.write(content)
        if ends:
            writer.write_eof()
        async with asyncio.timeout(_ANSWER_S):
            while chunk := await reader.read(65_536):
                answer += chunk
    except (OSError, TimeoutError):
        pass  # what was answered until then counts
    finally:
        writer.transport.abort()
    return answer
