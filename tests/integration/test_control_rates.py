"""Rate limits and their headers, and CORS for consoles of other origins."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import grpc
import pytest
import pytest_asyncio

from schemas.ids import new_id
from tests.integration.access import make_key, token_of, with_key
from tests.integration.control import Answer, ControlApi, running_control_api
from tests.running import free_port

GRPC_PORT = free_port()
CONSOLE = "https://console.example"
_POLICY = re.compile(r'"(user|key|address)";q=(\d+);w=60')
_LEFT = re.compile(r'"(user|key|address)";r=(\d+);t=(\d+)')


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(
    kafka: str, postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlApi]:
    settings = {
        "FLIGHTLINE_GRPC_BIND": f"127.0.0.1:{GRPC_PORT}",
        "FLIGHTLINE_RATE_USER": "40/minute",
        "FLIGHTLINE_RATE_KEY": "20/minute",
        "FLIGHTLINE_RATE_ADDRESS": "30/minute",
        "FLIGHTLINE_CORS_ORIGINS": f"{CONSOLE}, http://localhost:3000",
        "FLIGHTLINE_TRUSTED_PROXIES": "127.0.0.0/8",
    }
    folder = Path(tmp_path_factory.mktemp("control_rates"))
    async with running_control_api(kafka, postgres_dsn, folder, **settings) as running:
        yield running


def left(answer: Answer) -> tuple[str, int]:
    """Whose limit an answer tells of, and what is left of it."""
    policy = _POLICY.fullmatch(answer.headers["RateLimit-Policy"])
    found = _LEFT.fullmatch(answer.headers["RateLimit"])
    assert policy
    assert found
    assert policy[1] == found[1]
    assert 0 < int(found[3]) <= 120
    return found[1], int(found[2])


async def until_refused(api: ControlApi, most: int, **credentials: str) -> list[Answer]:
    answers = []
    for _ in range(most + 1):
        answers.append(await api.bare("GET", "/campaigns", headers=credentials))
        if answers[-1].status == 429:
            break
    return answers


async def test_a_user_and_a_key_each_have_a_limit_of_their_own(api: ControlApi) -> None:
    one, two = await token_of(api, "viewer"), await token_of(api, "viewer")
    key = (await make_key(api, "campaigns:read"))["key"]
    for credentials, policy, quota in (
        ({"Authorization": f"Bearer {one}"}, "user", 40),
        ({"X-API-Key": key}, "key", 20),
    ):
        answers = await until_refused(api, 3 * quota, **credentials)
        assert left(answers[0]) == (policy, quota - 1)
        assert quota <= len(answers) - 1 <= 2 * quota
        refused = answers[-1]
        assert (refused.status, refused.body["type"]) == (429, "/problems/too-many-requests")
        assert 0 < int(refused.headers["Retry-After"]) <= 120
        assert left(refused) == (policy, 0)
    assert (await api.call("GET", "/campaigns", token=two)).status == 200


async def test_an_address_is_limited_only_in_what_comes_without_a_valid_token(api: ControlApi) -> None:
    token, key = await token_of(api, "viewer"), (await make_key(api, "campaigns:read"))["key"]
    there = {"X-Forwarded-For": f"10.0.0.1, 2001:db8:0:{new_id()[:4]}::7"}
    assert (await api.bare("GET", "/campaigns", headers={"X-API-Key": key} | there)).status == 200
    answers = await until_refused(api, 90, Authorization="Bearer x", **there)
    assert {answer.status for answer in answers[:-1]} == {401}
    assert left(answers[0])[0] == "address"
    assert answers[-1].status == 429
    neighbour = {"X-Forwarded-For": there["X-Forwarded-For"][:-1] + "8"}
    for where in (there, neighbour):
        login = {"email": "a@b.example", "password": "x"}
        assert (await api.bare("POST", "/auth/login", login, headers=where)).status == 429
        guess = {"X-API-Key": f"ck_{new_id()}"} | where
        assert (await api.bare("GET", "/campaigns", headers=guess)).status == 429
        for good in ({"Authorization": f"Bearer {token}"}, {"X-API-Key": key}):
            assert (await api.bare("GET", "/campaigns", headers=good | where)).status == 200
    elsewhere = {"X-Forwarded-For": f"{there['X-Forwarded-For']}, 203.0.113.5"}
    assert (await api.bare("GET", "/campaigns", headers=elsewhere)).status == 401


async def test_every_answer_of_the_api_tells_what_is_left(api: ControlApi) -> None:
    token = await token_of(api, "viewer")
    for method, path, status in (
        ("GET", "/campaigns", 200),
        ("GET", f"/campaigns/{new_id()}", 404),
        ("POST", "/campaigns", 403),
        ("GET", "/campaigns?x=1", 400),
        ("PATCH", "/campaigns", 405),
        ("GET", "/nowhere", 404),
        ("GET", "/openapi.json", 200),
    ):
        answer = await api.call(method, path, token=token)
        assert answer.status == status, (method, path, answer)
        left(answer)
    assert "RateLimit" not in (await api.page("/health")).headers


async def test_consoles_of_named_origins_may_read_answers_and_no_others(api: ControlApi) -> None:
    async with aiohttp.ClientSession() as http:
        for origin, expected in ((CONSOLE, CONSOLE), ("https://evil.example", None), ("null", None)):
            asked = {
                "Origin": origin,
                "Access-Control-Request-Method": "PUT",
                "Access-Control-Request-Headers": "authorization,if-match,idempotency-key",
            }
            async with http.options(f"{api.url}/api/v1/campaigns", headers=asked) as answer:
                assert answer.headers.get("Access-Control-Allow-Origin") == expected
                if expected:
                    assert answer.status == 204
                    assert "PUT" in answer.headers["Access-Control-Allow-Methods"]
                    assert "Access-Control-Allow-Credentials" not in answer.headers
            seen = await api.call("GET", "/organization", headers={"Origin": origin})
            assert seen.headers.get("Access-Control-Allow-Origin") == expected
            if expected:
                assert "ETag" in seen.headers["Access-Control-Expose-Headers"]
            refused = await api.bare("GET", "/organization", headers={"Origin": origin})
            assert (refused.status, refused.headers.get("Access-Control-Allow-Origin")) == (401, expected)


async def test_a_key_is_counted_beside_its_maker(api: ControlApi) -> None:
    made = await make_key(api, "campaigns:read")
    answer = await with_key(api, made["key"], "GET", "/campaigns")
    assert left(answer)[0] == "key"


async def test_calls_over_grpc_are_counted_with_those_over_http(api: ControlApi) -> None:
    token = await token_of(api, "viewer")
    assert (await api.call("GET", "/campaigns", token=token)).status == 200
    async with grpc.aio.insecure_channel(f"127.0.0.1:{GRPC_PORT}") as channel:
        listed = channel.unary_unary("/flightline.v1.CampaignService/ListCampaigns")
        metadata = (("authorization", f"Bearer {token}"),)
        codes = [await listed(b"", metadata=metadata).code() for _ in range(90)]
    assert codes[0] is grpc.StatusCode.OK
    assert codes[-1] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await api.call("GET", "/campaigns", token=token)).status == 429
