"""What the door does when it is asked for more than it can: it says so quickly, and to the one who asks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import psutil
import pytest
import pytest_asyncio

from schemas.access_keys import KeyLimits
from tests.integration.door import Door, eventually, publishing, read_log, running_door

MIB = 1024 * 1024
LOAD = "flightline_ingest_load_bytes"


class Account:
    """An organization with a campaign and a key that the door knows."""

    def __init__(self, organization: str, campaign_id: str, key: str) -> None:
        self.organization = organization
        self.campaign_id = campaign_id
        self.key = key

    def event(self, event_id: str) -> dict[str, str]:
        return {"campaignId": self.campaign_id, "type": "CLICK", "eventId": event_id}


@asynccontextmanager
async def account(kafka: str, door: Door) -> AsyncIterator[Account]:
    async with publishing(kafka) as publisher:
        campaign, key = await publisher.campaign(), await publisher.key()
        one = Account(publisher.organization, campaign.campaign_id, key)
        await eventually(lambda: door.send(one.event("known"), key), lambda it: it[0] == 202, within=30)
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def small_door(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    """It carries 1 MiB, waits long for bodies, and holds requests long enough for many to meet."""
    folder = tmp_path_factory.mktemp("small")
    async with running_door(kafka, folder, max_pending_mb="1", body_ms="60000", linger_ms="100") as door:
        yield door


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def opened(door: Door, sent: bytes) -> Connection:
    """A connection on which this was sent."""
    host, port = door.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    await writer.drain()
    return reader, writer


def head(account: Account, length: int, key: str | None = None) -> bytes:
    return (
        f"POST /v1/events HTTP/1.1\r\nHost: door\r\nX-Write-Key: {key or account.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


async def answer_of(connection: Connection) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer on a connection; leaves it closed."""
    reader, writer = connection
    lines = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    body = await asyncio.wait_for(reader.readexactly(int(headers["content-length"])), 30)
    writer.close()
    return int(lines[0].split()[1]), headers, body


async def test_an_organization_that_holds_its_share_is_told_so_and_others_are_served(
    kafka: str, small_door: Door
) -> None:
    door = small_door
    async with account(kafka, door) as greedy, account(kafka, door) as modest:
        stalled = [await opened(door, head(greedy, 60_000)) for _ in range(8)]
        await eventually(lambda: door.metric(LOAD), lambda held: held == 8 * 60_000, within=30)
        status, headers, body = await answer_of(await opened(door, head(greedy, 60_000)))
        assert (status, headers["retry-after"], headers["connection"]) == (429, "1", "close")
        assert msgspec.json.decode(body)["type"] == "/problems/over-share"
        assert (await door.send(modest.event("served"), modest.key))[0] == 202
        for _, writer in stalled:
            writer.close()
        await eventually(lambda: door.metric(LOAD), lambda held: held == 0, within=30)
        assert (await door.send(greedy.event("again"), greedy.key))[0] == 202


async def test_one_organizations_flood_leaves_the_others_their_answers(kafka: str, small_door: Door) -> None:
    door = small_door
    async with account(kafka, door) as greedy, account(kafka, door) as modest:
        flooding = True
        answers: list[int] = []

        async def flood(number: int) -> None:
            round_ = 0
            while flooding:
                round_ += 1
                status, _ = await door.send(greedy.event(f"flood-{number}-{round_}"), greedy.key)
                answers.append(status)

        floods = [asyncio.create_task(flood(number)) for number in range(90)]
        while len(answers) < 200:
            assert not any(task.done() for task in floods)
            await asyncio.sleep(0.01)
        served = [(await door.send(modest.event(f"m-{number}"), modest.key))[0] for number in range(30)]
        flooding = False
        await asyncio.gather(*floods)
        assert served == [202] * 30
        assert set(answers) <= {202, 429}
        assert {429, 202} <= set(answers)
        logged = {line.event.event_id for line in await read_log(kafka, modest.organization)}
        assert {f"m-{number}" for number in range(30)} <= logged


async def test_large_bodies_that_never_end_take_no_memory_beyond_the_limit(
    kafka: str, tmp_path: Path
) -> None:
    async with (
        running_door(kafka, tmp_path, max_pending_mb="8", body_ms="60000") as door,
        account(kafka, door) as greedy,
        account(kafka, door) as modest,
    ):
        process = psutil.Process(door.process.pid)
        before = process.memory_info().rss
        piece = head(greedy, MIB) + b" " * (900 * 1024)
        connections = await asyncio.gather(
            *(opened_and_written(door, piece) for _ in range(200)), return_exceptions=True
        )
        assert (await door.send(modest.event("served"), modest.key))[0] == 202
        assert await door.metric(LOAD) <= 8 * MIB
        assert process.memory_info().rss - before < 100 * MIB, "180 MB were sent"
        for connection in connections:
            if not isinstance(connection, BaseException):
                connection[1].close()


async def opened_and_written(door: Door, sent: bytes) -> Connection:
    """As `opened`, for more than the door may want to read."""
    host, port = door.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    with suppress(TimeoutError, OSError):
        await asyncio.wait_for(writer.drain(), 5)
    return reader, writer


async def test_a_key_that_has_spent_its_limit_is_refused_before_its_body_is_read(
    kafka: str, small_door: Door
) -> None:
    door = small_door
    async with publishing(kafka) as publisher:
        campaign = await publisher.campaign()
        key = await publisher.key(limits=KeyLimits(events_per_second=1, burst=20))
        one = Account(publisher.organization, campaign.campaign_id, key)
        debt = [one.event(f"debt-{number}") for number in range(400)]
        await eventually(lambda: door.send(debt, key), lambda answer: answer[0] == 202, within=60)
        status, headers, body = await answer_of(await opened(door, head(one, 60_000)))
        assert status == 429
        assert int(headers["retry-after"]) > 100
        assert msgspec.json.decode(body)["type"] == "/problems/too-many-requests"


async def test_connections_on_which_no_request_comes_are_cut(small_door: Door) -> None:
    async def ended(sent: bytes, dripping: bytes = b"") -> bytes:
        reader, writer = await opened(small_door, sent)

        async def drip() -> None:
            while dripping:
                await asyncio.sleep(0.5)
                writer.write(dripping)

        drops = asyncio.create_task(drip())
        try:
            return await asyncio.wait_for(reader.read(), 30)
        finally:
            drops.cancel()
            writer.close()

    silent, begun, dripped, kept = await asyncio.gather(
        ended(b""),
        ended(b"POST /v1/events HTTP/1.1\r\nHost: door\r\n"),
        ended(b"POST /v1/events HTTP/1.1\r\nHost: door\r\n", b"A: b\r\n"),
        ended(b"GET /health HTTP/1.1\r\nHost: door\r\n\r\n"),
    )
    assert (silent, begun, dripped) == (b"", b"", b"")
    assert kept.startswith(b"HTTP/1.1 200 ")
