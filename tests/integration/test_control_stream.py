"""Streams of metrics over HTTP: what they tell, how soon, and when they end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest
import pytest_asyncio

from control_api.auth.tokens import Claims, Tokens
from control_api.handlers.live import MOST_OF_ONE
from schemas.reasons import Threshold
from tests.integration.access import make_key
from tests.integration.control import SECRET, ControlApi, eventually, now, running_control_api


class Event(NamedTuple):
    kind: str
    data: Any
    id: str | None


class Following:
    """A client of a stream; events come when they are asked for."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.retry: str | None = None

    async def next(self, within: float = 10.0) -> Event | None:
        """The next event; None when the stream has ended."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(within):
            while line := (await self.response.content.readline()).decode():
                name, _, value = line.rstrip("\n").partition(": ")
                if line == "\n" and "event" in fields:
                    return Event(fields["event"], msgspec.json.decode(fields["data"]), fields.get("id"))
                if name == "retry":
                    self.retry = value
                fields[name] = value
        return None

    async def both(self) -> dict[str, Event]:
        """The next two events, by their kind."""
        first, second = await self.next(), await self.next()
        assert first
        assert second
        return {first.kind: first, second.kind: second}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(
    kafka: str, postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlApi]:
    async with running_control_api(kafka, postgres_dsn, Path(tmp_path_factory.mktemp("control"))) as running:
        yield running


@asynccontextmanager
async def following(
    api: ControlApi,
    campaign_id: str,
    *,
    token: str | None = None,
    key: str | None = None,
    last: str | None = None,
) -> AsyncIterator[Following]:
    bearer = {"Authorization": f"Bearer {token or api.made.admin_token}"}
    headers = {"X-API-Key": key} if key else bearer
    headers |= {"Last-Event-ID": last} if last else {}
    url = f"{api.url}/api/v1/campaigns/{campaign_id}/metrics/stream"
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as response:
        yield Following(response)


async def test_it_begins_with_what_is_and_goes_on_with_what_changes(api: ControlApi) -> None:
    campaign = await api.active()
    async with following(api, campaign["id"]) as stream:
        assert stream.response.headers["Content-Type"].startswith("text/event-stream")
        first = await stream.both()
        metrics = await api.call("GET", f"/campaigns/{campaign['id']}/metrics")
        assert first["metrics"].data == metrics.body
        assert first["status"].data["status"] == "ACTIVE"
        assert first["status"].data["crossed"] == []
        assert stream.retry == "2000"
        await api.spend(campaign["id"], 2_500_000, impressions=7)
        changed = await stream.next()
        assert changed
        assert (changed.kind, changed.data["impressions"]) == ("metrics", 7)
        assert changed.data["cost"] == {"amount": 2.5, "currency": "EUR"}
        await api.call("POST", f"/campaigns/{campaign['id']}/pause")
        paused = await stream.next()
        assert paused
        assert (paused.kind, paused.data["status"]) == ("status", "PAUSED")


async def test_a_crossing_is_told_and_the_status_that_follows_it(api: ControlApi) -> None:
    campaign = await api.active()
    async with following(api, campaign["id"]) as stream:
        await stream.both()
        await api.cross(campaign, Threshold.BUDGET_90)
        told: list[Any] = []
        while not told or told[-1]["status"] != "PAUSED":
            event = await stream.next(20)
            assert event
            told.append(event.data)
        assert all(each["crossed"] == ["90"] for each in told)
        assert told[-1]["statusReason"] == "BUDGET_90"


async def test_who_comes_back_is_told_only_what_has_changed(api: ControlApi) -> None:
    campaign = await api.active()
    async with following(api, campaign["id"]) as stream:
        last = (await stream.both())["status"].id
    await api.spend(campaign["id"], 1_000_000, impressions=3)
    async with following(api, campaign["id"], last=last) as stream:
        missed = await stream.next()
        assert missed
        assert (missed.kind, missed.data["impressions"]) == ("metrics", 3)
        await api.call("POST", f"/campaigns/{campaign['id']}/pause")
        following_one = await stream.next()
        assert following_one
        assert following_one.kind == "status"
    for odd in ("nonsense", "a.b.c", "x" * 300):
        async with following(api, campaign["id"], last=odd) as stream:
            assert set(await stream.both()) == {"metrics", "status"}


async def test_the_newest_state_is_told_however_many_there_were(api: ControlApi) -> None:
    campaign = await api.active()
    async with following(api, campaign["id"]) as stream:
        await stream.both()
        for count in range(1, 40):
            await api.spend(campaign["id"], count, impressions=count)
        told = []
        while not told or told[-1] != 39:
            event = await stream.next()
            assert event
            told.append(event.data["impressions"])
        assert told == sorted(told)
        assert len(told) < 39


async def test_a_deleted_campaign_ends_its_stream_and_is_not_found_afterwards(api: ControlApi) -> None:
    campaign = await api.create()
    async with following(api, campaign["id"]) as stream:
        await stream.both()
        assert (await api.call("DELETE", f"/campaigns/{campaign['id']}")).status == 204
        end = await stream.next()
        assert end
        assert (end.kind, end.data) == ("end", {"reason": "deleted"})
        assert await stream.next() is None
    async with following(api, campaign["id"]) as stream:
        assert stream.response.status == 404


async def test_it_ends_with_the_token(api: ControlApi) -> None:
    campaign = await api.create()
    claims = Claims(api.made.admin_id, api.made.organization_id, ("admin",))
    # What is checked allows five seconds for clocks that differ; the stream does not.
    token = Tokens(SECRET).mint(claims, now=now(), lifetime=timedelta(seconds=2))
    async with following(api, campaign["id"], token=token) as stream:
        await stream.both()
        end = await stream.next()
        assert end
        assert end.data == {"reason": "token-expired"}
        assert await stream.next() is None


async def test_it_ends_when_its_key_is_revoked(api: ControlApi) -> None:
    campaign, key = await api.create(), await make_key(api, "campaigns:read")
    async with following(api, campaign["id"], key=key["key"]) as stream:
        await stream.both()
        assert (await api.call("DELETE", f"/api-keys/{key['id']}")).status == 204
        end = await stream.next(60)
        assert end
        assert end.data == {"reason": "token-expired"}
        assert await stream.next() is None


async def test_a_silent_stream_has_a_heartbeat(api: ControlApi) -> None:
    campaign = await api.create()
    async with following(api, campaign["id"]) as stream:
        await stream.both()
        async with asyncio.timeout(40):
            while (line := await stream.response.content.readline()) == b"\n":
                pass
        assert line == b": still here\n"


async def test_others_find_nothing_and_nobody_follows_without_a_token(api: ControlApi) -> None:
    campaign = await api.create()
    async with following(api, campaign["id"], token=await api.other_organization()) as stream:
        assert stream.response.status == 404
    async with following(api, campaign["id"], token="nonsense") as stream:
        assert stream.response.status == 401


async def open_streams(api: ControlApi) -> float:
    text = (await api.page("/metrics")).body
    return next(
        float(line.split()[1]) for line in text.splitlines() if line.startswith("control_api_streams ")
    )


async def test_an_organization_has_so_many_streams_and_those_who_left_are_forgotten(api: ControlApi) -> None:
    campaign = await api.create()
    token = api.made.admin_token
    url = f"{api.url}/api/v1/campaigns/{campaign['id']}/metrics/stream"
    headers = {"Authorization": f"Bearer {token}"}
    await eventually(lambda: _are_open(api, 0), 20)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        opened = [await http.get(url, headers=headers) for _ in range(MOST_OF_ONE)]
        assert {each.status for each in opened} == {200}
        refused = await http.get(url, headers=headers)
        assert refused.status == 429
        assert refused.headers["Retry-After"]
        assert (await refused.json())["type"] == "/problems/too-many-streams"
        assert await open_streams(api) == MOST_OF_ONE
        for each in opened:
            each.close()
    await eventually(lambda: _are_open(api, 0), 20)
    async with following(api, campaign["id"]) as stream:
        assert await stream.both()


async def _are_open(api: ControlApi, count: int) -> bool:
    return await open_streams(api) == count


async def test_the_end_of_the_process_is_not_held_up(kafka: str, postgres_dsn: str, folder: Path) -> None:
    async with running_control_api(kafka, postgres_dsn, folder) as api:
        campaign = await api.create()
        async with following(api, campaign["id"]) as stream, following(api, campaign["id"]) as silent:
            await stream.both()
            assert silent.response.status == 200
            api.terminate()
            end = await stream.next()
            assert end
            assert end.data == {"reason": "stopping"}
            assert await asyncio.to_thread(api.wait, 10) == 0
