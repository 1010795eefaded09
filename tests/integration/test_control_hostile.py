"""What is meant to break something: statements, markup, numbers far off, texts that hide, deep bodies."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from aiohttp import ClientTimeout

from schemas.ids import new_id
from tests.integration.control import DAY, ControlApi, body, now, running_control_api

STATEMENTS = [
    "'; DROP TABLE control.campaigns; --",
    "\" OR ''=' OR 1=1 --",
    "x' UNION SELECT key_hash FROM control.access_keys --",
    "%'; SELECT pg_sleep(10); --",
    "\\'; --",
    "$$; DELETE FROM ledger.accounts; $$",
    ":name",
    "%s %(x)s {0}",
]
MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'><svg/onload=alert(1)>"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(
    kafka: str, postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlApi]:
    async with running_control_api(kafka, postgres_dsn, Path(tmp_path_factory.mktemp("hostile"))) as running:
        yield running


async def stored(api: ControlApi) -> int:
    return int((await api.sql("SELECT count(*) FROM control.campaigns"))[0][0])


async def refused(api: ControlApi, changes: dict[str, Any], *statuses: int) -> None:
    before = await stored(api)
    answer = await api.call("POST", "/campaigns", body(**changes))
    assert answer.status in (statuses or (422,)), (changes, answer)
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert await stored(api) == before


async def test_the_specifications_own_request_works_but_for_its_dates(api: ControlApi) -> None:
    asked = {
        "name": "Summer Sale 2024",
        "description": "Summer promotion campaign with 20% discount",
        "type": "PROMOTION",
        "targetingRules": ["rule-123", "rule-456"],
        "startDate": (now() + DAY).isoformat(),
        "endDate": (now() + 90 * DAY).isoformat(),
        "budget": {"amount": 10000.00, "currency": "EUR"},
        "settings": {
            "targetAudience": ["segment-1", "segment-2"],
            "channels": ["EMAIL", "WEB", "PUSH"],
            "frequency": "WEEKLY",
            "maxImpressions": 100000,
            "personalization": {"enabled": True, "rules": ["personalization-rule-1"]},
        },
    }
    made = await api.call("POST", "/campaigns", asked)
    assert made.status == 201, made
    shape = {
        "id", "name", "description", "status", "type", "targetingRules", "startDate", "endDate", "budget",
        "createdBy", "createdAt", "updatedAt", "settings", "metrics",
    }  # fmt: skip
    assert shape <= made.body.keys()
    metrics = {
        "impressions", "clicks", "conversions", "revenue", "cost", "ctr", "conversionRate", "roi",
        "lastUpdated",
    }  # fmt: skip
    assert metrics <= made.body["metrics"].keys()


@pytest.mark.parametrize("text", STATEMENTS)
async def test_statements_are_texts_like_others(api: ControlApi, text: str) -> None:
    name = f"{text} {new_id()}"
    made = await api.create(name=name, description=text, targetingRules=[text])
    assert (made["name"], made["description"], made["targetingRules"]) == (name, text, [text])
    found = await api.call("GET", "/campaigns", params={"q": name})
    assert [item["id"] for item in found.body["items"]] == [made["id"]]
    for parameter in ("sort", "cursor", "status", "limit", "startsAfter"):
        answer = await api.call("GET", "/campaigns", params={parameter: text})
        assert answer.status == 400, (parameter, answer)
    assert (await api.call("GET", f"/campaigns/{new_id()}'--")).status == 404


async def test_nothing_that_renders_runs_what_a_marketer_wrote(api: ControlApi) -> None:
    made = await api.create(name=f"{MARKUP} {new_id()}", description=MARKUP)
    for path in (f"/campaigns/{made['id']}", "/campaigns", "/organization", f"/campaigns/{MARKUP}"):
        answer = await api.call("GET", path)
        assert "json" in answer.headers["Content-Type"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    for page in ("/docs", "/problems/not-found", f"/problems/{MARKUP}"):
        shown = await api.page(page)
        assert "json" in shown.headers["Content-Type"] or "<script" not in str(shown.body)
        assert "default-src 'none'" in shown.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "changes",
    [
        {"budget": {"amount": 10**18, "currency": "EUR"}},
        {"budget": {"amount": 9223372036854775808, "currency": "EUR"}},
        {"budget": {"amount": -1, "currency": "EUR"}},
        {"budget": {"amount": 0, "currency": "EUR"}},
        {"budget": {"amount": 1e308, "currency": "EUR"}},
        {"budget": {"amount": "NaN", "currency": "EUR"}},
        {"budget": {"amount": "Infinity", "currency": "EUR"}},
        {"budget": {"amount": 0.5, "currency": "JPY"}},
        {"budget": {"amount": 1.2345, "currency": "KWD"}},
        {"budget": {"amount": 1, "currency": "XXX"}},
        {"startDate": "0001-01-01T00:00:00Z"},
        {"startDate": "9999-12-31T23:59:59Z", "endDate": None},
        {"startDate": "9999-12-31T23:59:59-23:59", "endDate": None},
        {"startDate": "2031-02-30T00:00:00Z"},
        {"startDate": "2031-06-01T00:00:00"},
        {"startDate": 2**63},
        {"endDate": "9999-12-31T23:59:59Z"},
    ],
    ids=str,
)
async def test_numbers_and_dates_far_off_are_refused_and_nothing_is_stored(
    api: ControlApi, changes: dict[str, Any]
) -> None:
    await refused(api, changes)


@pytest.mark.parametrize("number", [2**63, -1, 0, 1.5, 10**30], ids=str)
async def test_counts_that_are_none_are_refused(api: ControlApi, number: float) -> None:
    settings = body()["settings"]
    await refused(api, {"settings": settings | {"maxImpressions": number}})


@pytest.mark.parametrize("hidden", ["\u200b", "\u202e", "\u0007", "\ufeff", "\u2028"])
async def test_what_cannot_be_seen_has_no_place_in_a_name(api: ControlApi, hidden: str) -> None:
    await refused(api, {"name": f"Sum{hidden}mer {new_id()}"})
    await refused(api, {"description": f"a{hidden}b"})


async def test_a_character_has_one_way_of_writing(api: ControlApi) -> None:
    name = f"Caf\u00e9 {new_id()}"
    await api.create(name=name)
    await refused(api, {"name": name.replace("\u00e9", "e\u0301")}, 409)


@pytest.mark.parametrize("text", ["a\0b", "\0"])
async def test_nul_is_refused_wherever_it_stands(api: ControlApi, text: str) -> None:
    settings = body()["settings"]
    for changes in (
        {"name": text},
        {"description": text},
        {"targetingRules": [text]},
        {"settings": settings | {"targetAudience": [text]}},
    ):
        await refused(api, changes)


async def test_deep_and_large_bodies_are_refused(api: ControlApi) -> None:
    before = await stored(api)
    deep = b'{"settings":' * 50_000 + b"1" + b"}" * 50_000
    for sent in (deep, b"[" * 100_000, b'{"name": "' + b"x" * 900_000 + b'"}', b'{"name": 1e999999}'):
        answer = await api.call("POST", "/campaigns", data=sent)
        assert 400 <= answer.status < 500, answer
    long = await api.call("POST", "/campaigns", body(name="x" * 256))
    assert long.status == 422
    many = await api.call("POST", "/campaigns", body(targetingRules=[str(n) for n in range(1_001)]))
    assert many.status == 422
    assert await stored(api) == before
    assert "request.failed" not in api.log


async def test_a_moment_is_the_same_in_every_offset(api: ControlApi) -> None:
    start = (now() + DAY).replace(microsecond=0)
    shown = await api.create(
        startDate=(start + timedelta(hours=9)).replace(tzinfo=None).isoformat() + "+09:00"
    )
    assert shown["startDate"] == start.isoformat().replace("+00:00", "Z")


async def test_a_thousand_connections_that_say_nothing_keep_nobody_out(api: ControlApi) -> None:
    address = urlsplit(api.url)
    idle = [await asyncio.open_connection(address.hostname, address.port) for _ in range(1_500)]
    try:
        assert (await api.call("GET", "/organization", timeout=ClientTimeout(20))).status == 200
    finally:
        for _, writer in idle:
            writer.close()
