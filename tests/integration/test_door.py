"""The door as its clients see it: a running process, real sockets, a real broker."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any

import aiohttp
import msgspec
import pytest
import pytest_asyncio
import zstandard

from schemas import door_problems
from schemas.access_keys import KeyKind, KeyLimits
from schemas.campaign_state import CampaignState, Pricing
from schemas.ids import partition_of
from schemas.reasons import CampaignStatus, PricingModel, Scope, Threshold
from tests.integration.door import (
    LONG_AGO,
    Door,
    Publisher,
    eventually,
    publishing,
    read_log,
    running_door,
)

CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0.0.0 Safari/537.36"
MIB = 1024 * 1024


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def door(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    async with running_door(kafka, tmp_path_factory.mktemp("door"), body_ms="2000") as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def publisher(kafka: str) -> AsyncIterator[Publisher]:
    async with publishing(kafka) as one:
        yield one


class Account:
    """A campaign and keys that the door knows."""

    def __init__(self, campaign: CampaignState, key: str, server_key: str) -> None:
        self.campaign = campaign
        self.id = campaign.campaign_id
        self.key = key
        self.server_key = server_key

    def event(self, **fields: Any) -> dict[str, Any]:
        return {"campaignId": self.id, "type": "IMPRESSION", **fields}


@pytest_asyncio.fixture(loop_scope="session")
async def account(door: Door, publisher: Publisher) -> Account:
    campaign = await publisher.campaign()
    key = await publisher.key()
    server_key = await publisher.key(Scope.WRITE, Scope.COST, Scope.BACKFILL, kind=KeyKind.SERVER)
    for one in (key, server_key):
        await eventually(partial(serve, door, campaign.campaign_id, one), lambda it: it == {"serve": True})
    return Account(campaign, key, server_key)


async def serve(door: Door, campaign_id: str, key: str) -> Any:
    url = f"{door.url}/v1/serve?campaigns={campaign_id}"
    async with door.http.get(url, headers={"X-Write-Key": key}) as response:
        answer = msgspec.json.decode(await response.read())
        return answer["campaigns"][campaign_id] if response.status == 200 else response.status


def statuses(answer: Any) -> list[tuple[str, str | None]]:
    return [(result["status"], result.get("reason")) for result in answer["results"]]


async def test_what_was_answered_stands_in_the_log_once_in_its_partition(door, account, publisher, kafka):
    events = [account.event(eventId=f"e{number}", visitorId="v") for number in range(700)]
    status, answer = await door.send(events, account.key, User_Agent=CHROME)
    assert (status, statuses(answer)) == (202, [("accepted", None)] * 700)
    assert answer["results"][3] == {"eventId": "e3", "status": "accepted", "serve": True}
    lines = await read_log(kafka, publisher.organization)
    assert sorted(line.event.event_id for line in lines) == sorted(event["eventId"] for event in events)
    for line in lines:
        assert line.partition == partition_of(publisher.organization, line.event.event_id, 4)
        assert (line.event.cost, line.event.user_agent, line.event.visitor_id) == (2_500, CHROME, "v")


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("application/json", None),
        ("text/plain;charset=UTF-8", None),
        ("application/x-ndjson", None),
        ("application/json", "gzip"),
        ("application/x-ndjson", "zstd"),
        ("text/plain", "gzip"),
    ],
)
async def test_every_way_of_sending_two_events_counts_both(
    door, account, publisher, kafka, content_type, encoding
):
    ids = [f"{content_type}-{encoding}-{number}" for number in range(2)]
    events = [msgspec.json.encode(account.event(eventId=event_id)) for event_id in ids]
    body = b"\n".join(events) if "ndjson" in content_type else b"[" + b",".join(events) + b"]"
    headers = {"Content_Encoding": encoding} if encoding else {}
    pack = {"gzip": gzip.compress, "zstd": zstandard.compress}.get(encoding, bytes)
    status, answer = await door.post(pack(body), account.key, content_type=content_type, **headers)
    assert (status, [result["eventId"] for result in answer["results"]]) == (202, ids)
    logged = {line.event.event_id for line in await read_log(kafka, publisher.organization)}
    assert logged == set(ids)


async def test_a_body_in_chunks_is_read_whole_and_not_beyond_the_limit(door, account):
    async def pieces(count: int) -> AsyncIterator[bytes]:
        yield b'{"type":"CLICK",'
        yield b" " * (64 * 1024) * count
        yield b'"campaignId":"%b"}' % account.id.encode()

    headers = {"X-Write-Key": account.key, "Content-Type": "application/json"}
    async with door.http.post(f"{door.url}/v1/events", data=pieces(0), headers=headers) as response:
        assert response.status == 202
    async with door.http.post(f"{door.url}/v1/events", data=pieces(15), headers=headers) as response:
        assert response.status == 422, "an event of almost 1 MiB"
    # The door may close while the client is still sending.
    with suppress(aiohttp.ClientConnectionError):
        async with door.http.post(f"{door.url}/v1/events", data=pieces(17), headers=headers) as response:
            assert response.status == 413


async def test_one_bad_element_costs_its_neighbours_nothing(door, account, publisher, kafka):
    good = msgspec.json.encode(account.event())
    bad = [b"5", b"{}", b'{"campaignId":NaN}', b'"\\ud800"', b"null", good[:-1] + b',"ip":"10.0.0.1"}']
    body = b"[" + b",".join(part for one in bad for part in (good, one)) + b"]"
    status, answer = await door.post(body, account.key)
    assert (status, statuses(answer)) == (202, [("accepted", None), ("rejected", "MALFORMED")] * len(bad))
    assert len(await read_log(kafka, publisher.organization)) == len(bad)


async def test_the_status_says_whether_all_were_refused_or_nothing_is_to_be_said(door, account):
    unknown = {"campaignId": LONG_AGO, "type": "CLICK"}
    minimal = {"Prefer": "return=minimal"}
    assert (await door.send(account.event(), account.key, **minimal)) == (204, None)
    assert (await door.send([account.event(), unknown], account.key, **minimal))[0] == 202
    status, answer = await door.send([unknown], account.key, **minimal)
    assert (status, statuses(answer)) == (422, [("rejected", "UNKNOWN_CAMPAIGN")])
    assert (await door.send([], account.key)) == (202, {"results": []})


BROKEN = [
    ("empty", b"", {}, 400),
    ("no JSON", b"hello", {}, 400),
    ("cut short", b'{"campaignId":', {}, 400),
    ("not UTF-8", b'{"campaignId":"\xff"}', {}, 400),
    ("a deep array", b"[" * 100_000, {}, 400),
    ("not gzip", b"{}", {"Content_Encoding": "gzip"}, 400),
    ("not zstd", b"{}", {"Content_Encoding": "zstd"}, 400),
    ("another coding", b"{}", {"Content_Encoding": "br"}, 415),
    ("two codings", b"{}", {"Content_Encoding": "gzip, gzip"}, 415),
    ("another type", b"{}", {"content_type": "application/x-www-form-urlencoded"}, 415),
    ("another charset", b"{}", {"content_type": "application/json; charset=utf-16"}, 415),
    ("too large", b" " * (MIB + 1), {}, 413),
    ("a gzip bomb", gzip.compress(b" " * (200 * MIB)), {"Content_Encoding": "gzip"}, 413),
    ("a zstd bomb", zstandard.compress(b" " * (200 * MIB)), {"Content_Encoding": "zstd"}, 413),
    ("too many events", b"[" + b",".join([b"{}"] * 1_001) + b"]", {}, 413),
]


@pytest.mark.parametrize(
    ("body", "headers", "status"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN]
)
async def test_a_request_that_is_broken_gets_its_own_problem(door, account, body, headers, status):
    answered, problem = await door.post(body, account.key, **headers)
    assert (answered, problem["status"]) == (status, status)
    assert problem["type"].startswith("/problems/")
    assert problem["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/events", 405),
        ("DELETE", "/v1/serve", 405),
        ("POST", "/health", 405),
        ("PATCH", "/v1/pixel.gif", 405),
        ("GET", "/", 404),
        ("POST", "/v1/event", 404),
        ("GET", "/v1/serve", 400),
    ],
)
async def test_wrong_paths_and_methods_are_answered(door, account, method, path, status):
    headers = {"X-Write-Key": account.key}
    async with door.http.request(method, door.url + path, headers=headers) as response:
        assert response.status == status
        assert response.content_type == "application/problem+json"
        assert ("Allow" in response.headers) == (status == 405)


async def test_a_key_may_come_as_header_or_parameter_and_must_be_valid(door, account, publisher):
    event = msgspec.json.encode(account.event())
    async with door.http.post(f"{door.url}/v1/events?key={account.key}", data=event) as response:
        assert response.status == 415, "aiohttp sends application/octet-stream"
    headers = {"Content-Type": "text/plain"}
    url = f"{door.url}/v1/events?key={account.key}"
    async with door.http.post(url, data=event, headers=headers) as response:
        assert response.status == 202
    for key in ("", "wrong", "x" * 5_000, "é"):
        assert (await door.send(account.event(), key))[0] == 401
    expired = await publisher.key(expires_at=1)
    unscoped = await publisher.key(Scope.COST)
    await eventually(lambda: door.send(account.event(), unscoped), lambda answer: answer[0] == 403)
    assert (await door.send(account.event(), expired))[0] == 401


async def test_a_key_is_held_to_its_origins_and_browsers_may_read_the_answer(door, account, publisher):
    key = await publisher.key(allowed_origins=("https://shop.example",))
    await eventually(lambda: door.send(account.event(), key), lambda answer: answer[0] == 202)
    assert (await door.send(account.event(), key, Origin="https://evil.example"))[0] == 403
    headers = {"X-Write-Key": key, "Content-Type": "text/plain", "Origin": "https://shop.example"}
    body = msgspec.json.encode(account.event())
    async with door.http.post(f"{door.url}/v1/events", data=body, headers=headers) as response:
        assert response.status == 202
        assert response.headers["Access-Control-Allow-Origin"] == "https://shop.example"
        assert {"Date", "Retry-After"} <= set(
            response.headers["Access-Control-Expose-Headers"].replace(" ", "").split(",")
        )
        assert response.headers["Vary"] == "Origin"
        assert "Date" in response.headers
    asked = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    async with door.http.options(f"{door.url}/v1/events", headers=asked) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "https://shop.example"
        assert "X-Write-Key" in response.headers["Access-Control-Allow-Headers"]


async def test_a_key_with_a_limit_is_told_when_to_come_back(door, account, publisher):
    key = await publisher.key(limits=KeyLimits(events_per_second=1, burst=5))
    await eventually(lambda: door.send([], key), lambda answer: answer[0] == 202)
    assert (await door.send([account.event()] * 5, key))[0] == 202
    headers = {"X-Write-Key": key, "Content-Type": "text/plain"}
    body = msgspec.json.encode([account.event()] * 3)
    async with door.http.post(f"{door.url}/v1/events", data=body, headers=headers) as response:
        assert response.status == 429
        assert int(response.headers["Retry-After"]) in {2, 3}


@pytest.mark.parametrize("what", ["revoked key", "paused", "gate", "new campaign"])
async def test_a_running_door_obeys_a_change(door, account, publisher, what):
    """How soon: `tests/bench/obedience.py`."""
    if what == "revoked key":
        await publisher.put_key(account.key, version=2, revoked=True)
        await eventually(lambda: door.send(account.event(), account.key), lambda answer: answer[0] == 401)
    elif what == "paused":
        await publisher.change(account.campaign, status=CampaignStatus.PAUSED)
        paused = {"serve": False, "reason": "PAUSED"}
        await eventually(lambda: serve(door, account.id, account.server_key), lambda seen: seen == paused)
    elif what == "gate":
        await publisher.gate(account.campaign, Threshold.BUDGET_90)
        closed = {"serve": False, "reason": "BUDGET_90"}
        await eventually(lambda: serve(door, account.id, account.server_key), lambda seen: seen == closed)
        _, answer = await door.send(account.event(), account.key)
        assert answer["results"][0] | {"eventId": None} == {
            "eventId": None, "status": "unbilled", "reason": "BUDGET_90", "serve": False,
        }  # fmt: skip
    else:
        campaign = await publisher.campaign()
        event = {"campaignId": campaign.campaign_id, "type": "CLICK"}
        (_, answer), _ = await eventually(
            lambda: door.send(event, account.key), lambda answer: statuses(answer[1])[0][0] != "retry"
        )
        assert statuses(answer) == [("accepted", None)]


async def test_an_older_version_that_comes_late_changes_nothing(door, account, publisher):
    await publisher.change(account.campaign, version=9)
    await publisher.change(account.campaign, status=CampaignStatus.PAUSED)
    other = await publisher.campaign()
    await eventually(
        lambda: serve(door, other.campaign_id, account.server_key), lambda seen: seen == {"serve": True}
    )
    assert await serve(door, account.id, account.server_key) == {"serve": True}


async def test_the_pixel_always_answers_with_a_picture(door, account, publisher, kafka):
    async def pixel(query: str) -> int:
        async with door.http.get(f"{door.url}/v1/pixel.gif?{query}") as response:
            assert response.content_type == "image/gif"
            assert (await response.read()).startswith(b"GIF89a")
            return response.status

    wanted = (
        f"key={account.key}&campaignId={account.id}&type=CONVERSION&revenue=4.50&currency=EUR&variant=%C3%A4"
    )
    assert await pixel(wanted) == 200
    assert await pixel(f"key={account.key}&campaignId={LONG_AGO}&type=CLICK") == 422
    assert await pixel(f"key=wrong&campaignId={account.id}&type=CLICK") == 422
    assert await pixel("") == 422
    (line,) = await read_log(kafka, publisher.organization)
    assert (line.event.revenue, line.event.revenue_verified, line.event.variant) == (4_500_000, False, "ä")


async def test_serve_answers_many_campaigns_and_not_again_when_nothing_changed(door, account, publisher):
    url = f"{door.url}/v1/serve?campaigns={account.id},{LONG_AGO}&key={account.key}"
    async with door.http.get(url) as response:
        etag = response.headers["ETag"]
        assert msgspec.json.decode(await response.read()) == {
            "campaigns": {
                account.id: {"serve": True},
                LONG_AGO: {"serve": False, "reason": "UNKNOWN_CAMPAIGN"},
            }
        }
    async with door.http.get(url, headers={"If-None-Match": etag}) as response:
        assert (response.status, await response.read()) == (304, b"")
    await publisher.gate(account.campaign, Threshold.BUDGET_100)

    async def status() -> int:
        async with door.http.get(url, headers={"If-None-Match": etag}) as response:
            return response.status

    await eventually(status, lambda seen: seen == 200)


async def test_costs_countries_agents_and_old_events_are_a_servers_to_say(door, account, publisher, kafka):
    priced = await publisher.campaign(pricing=Pricing(PricingModel.EVENT, 0))
    event = {
        "campaignId": priced.campaign_id,
        "type": "IMPRESSION",
        "cost": {"amount": 0.113},
        "country": "de",
    }
    await eventually(
        lambda: serve(door, priced.campaign_id, account.key), lambda seen: seen == {"serve": True}
    )
    assert statuses((await door.send(event, account.key))[1]) == [("rejected", "MISSING_SCOPE")]
    sent = [
        {**event, "eventId": "cost", "userAgent": CHROME},
        {**event, "eventId": "bot", "userAgent": "Googlebot/2.1"},
        {**event, "eventId": "old", "occurredAt": "2020-01-01T00:00:00Z"},
    ]
    _, answer = await door.send(sent, account.server_key, User_Agent="Googlebot/2.1")
    assert statuses(answer) == [("accepted", None), ("unbilled", "BOT"), ("unbilled", "BACKFILL")]
    logged = {line.event.event_id: line.event for line in await read_log(kafka, publisher.organization)}
    assert {name: (event.cost, event.country) for name, event in logged.items()} == {
        "cost": (113_000, "DE"), "bot": (0, "DE"), "old": (0, "DE"),
    }  # fmt: skip


async def test_another_organizations_campaign_is_unknown(door, account, kafka):
    async with publishing(kafka) as other:
        foreign = await other.campaign(campaign_id=LONG_AGO)
        key = await other.key()
        await eventually(lambda: serve(door, foreign.campaign_id, key), lambda seen: seen == {"serve": True})
    _, answer = await door.send({"campaignId": LONG_AGO, "type": "CLICK"}, account.key)
    assert statuses(answer) == [("rejected", "UNKNOWN_CAMPAIGN")]


async def test_refused_events_are_counted_and_a_server_key_can_look_at_samples(door, account):
    line = 'flightline_ingest_events_total{reason="WRONG_CURRENCY",status="rejected"}'
    before = await door.metric(line)
    await door.send(account.event(eventId="mine", revenue={"amount": 1, "currency": "USD"}), account.key)
    assert await door.metric(line) == before + 1
    url = f"{door.url}/v1/rejections"
    async with door.http.get(url, headers={"X-Write-Key": account.server_key}) as response:
        (sample,) = msgspec.json.decode(await response.read())["rejections"]
        assert (sample["eventId"], sample["reason"]) == ("mine", "WRONG_CURRENCY")
    async with door.http.get(url, headers={"X-Write-Key": account.key}) as response:
        assert response.status == 403


async def test_many_clients_at_once_share_records_and_lose_nothing(door, account, publisher, kafka):
    before = await door.metric('flightline_ingest_records_total{outcome="delivered"}')
    sent = [account.event(eventId=f"many-{number}") for number in range(400)]
    answers = await asyncio.gather(*(door.send(event, account.key) for event in sent))
    assert {status for status, _ in answers} == {202}
    logged = await read_log(kafka, publisher.organization)
    assert sorted(line.event.event_id for line in logged) == sorted(event["eventId"] for event in sent)
    records = await door.metric('flightline_ingest_records_total{outcome="delivered"}') - before
    assert records < len(sent)


async def test_garbage_on_the_wire_does_not_disturb_the_door(door, account):
    host, port = door.url.removeprefix("http://").split(":")
    for garbage in (
        b"\x16\x03\x01\x00\xff",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nA: " + b"x" * 600_000,
    ):
        reader, writer = await asyncio.open_connection(host, int(port))
        # The door may hang up before all is written.
        with suppress(OSError):
            writer.write(garbage)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 12)
        writer.close()
    assert (await door.send(account.event(), account.key))[0] == 202


@pytest.mark.parametrize(
    "framing", ["Content-Length: 100\r\n\r\n[", "Transfer-Encoding: chunked\r\n\r\n1\r\n[\r\n"]
)
async def test_a_body_that_never_ends_is_told_so_and_let_go(door, account, framing):
    writer, reader = await opened(door, account, framing)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert head.startswith(b"HTTP/1.1 408 ")
    writer.close()
    assert (await door.send(account.event(), account.key))[0] == 202


async def test_a_client_that_leaves_in_the_middle_of_a_body_is_no_fault_of_the_door(door, account):
    before = await door.metric('flightline_ingest_refusals_total{problem="malformed-body"}')
    writer, _ = await opened(door, account, "Content-Length: 100\r\n\r\n[")
    writer.close()
    await eventually(
        lambda: door.metric('flightline_ingest_refusals_total{problem="malformed-body"}'),
        lambda refused: refused == before + 1,
    )


async def opened(
    door: Door, account: Account, framing: str
) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
    """A connection on which the beginning of a request was sent."""
    host, port = door.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /v1/events HTTP/1.1\r\nHost: door\r\nX-Write-Key: {account.key}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\n{framing}".encode())
    await writer.drain()
    return writer, reader


async def test_each_problem_has_a_page(door):
    for problem in door_problems.ALL:
        async with door.http.get(f"{door.url}/problems/{problem.name}") as response:
            assert response.status == 200
            assert problem.advice in await response.text()


async def test_metrics_are_shown_once_to_a_connection(door):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(door.url.rpartition(":")[2]))
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: door\r\n\r\n" * 100)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    assert answer.count(b"HTTP/1.1 200 OK") == 1


async def test_nothing_of_this_module_made_the_door_fail(door):
    assert await door.metric("flightline_ingest_unexpected_errors_total") == 0
    assert door.process.poll() is None
