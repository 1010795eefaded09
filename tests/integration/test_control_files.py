"""Export and import: files of campaigns, and the jobs that take them."""

import asyncio
import csv
import gzip
import io
import os
import signal
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import msgspec
import pytest
import pytest_asyncio
from hypothesis import Phase, given, settings

from control_api.clock import utc_now
from control_api.domain.permissions import Role
from control_api.domain.texts import composed, unseen_in
from control_api.handlers.jobs import MOST_UNFINISHED
from control_api.jobs import imports
from control_api.stores.database import Database
from schemas import campaign_state
from schemas.ids import new_id
from tests.integration.access import token_of
from tests.integration.control import (
    Answer,
    ControlApi,
    body,
    eventually,
    running_control_api,
)
from tests.integration.drafts import MANY
from tests.unit.control_api.documents import HOSTILE, documents

TYPES = {"csv": "text/csv", "ndjson": "application/x-ndjson", "json": "application/json"}
OWN = {"id", "version", "createdAt", "createdBy", "updatedAt", "updatedBy", "metrics", "status"}
"""What a round trip does not keep."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(
    kafka: str, postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlApi]:
    async with running_control_api(kafka, postgres_dsn, Path(tmp_path_factory.mktemp("files"))) as running:
        yield running


def ndjson(rows: Iterable[Any]) -> bytes:
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


async def send(
    api: ControlApi, data: bytes, query: str = "format=ndjson", *, token: str | None = None, **headers: str
) -> Answer:
    path = f"/campaigns/import?{query}"
    return await api.call("POST", path, data=data, token=token, headers=headers)


async def done(api: ControlApi, answer: Answer, *, token: str | None = None, within: float = 120) -> Any:
    """The job once it has ended."""
    assert answer.status == 202, answer
    path = f"/jobs/{answer.body['jobId']}"
    assert answer.headers["Location"] == f"/api/v1{path}"

    async def look() -> Any:
        job = (await api.call("GET", path, token=token)).body
        return job if job["state"] not in ("queued", "running") else None

    return await eventually(look, within)


async def imported(
    api: ControlApi, data: bytes, query: str = "format=ndjson", *, token: str | None = None
) -> Any:
    return await done(api, await send(api, data, query, token=token), token=token)


async def campaigns(api: ControlApi, token: str | None) -> list[dict[str, Any]]:
    url = f"{api.url}/api/v1/campaigns/export?format=ndjson"
    text = await raw(api, url, token)
    return [msgspec.json.decode(line) for line in text.splitlines()]


async def raw(api: ControlApi, url: str, token: str | None) -> bytes:
    """The bytes of an answer as they are, whatever its type."""
    headers = {"Authorization": f"Bearer {token or api.made.admin_token}"}
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as response:
        assert response.status == 200
        return await response.read()


def kept(campaign: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in campaign.items() if name not in OWN}


def examples(count: int) -> list[dict[str, Any]]:
    """Campaigns with every setting and hostile texts; each with a name of its own."""
    found: list[dict[str, Any]] = []

    @settings(max_examples=count, derandomize=True, database=None, deadline=None, phases=[Phase.generate])
    @given(documents())
    def collect(document: dict[str, Any]) -> None:
        found.append(document)

    collect()
    seen = [text for text in HOSTILE if not unseen_in(composed(text))]
    texts = [seen[index % len(seen)] for index in range(len(found))]
    return [
        document | {"name": f"{text}{document['name'][:40]} {index}", "description": f"{text}{text}"}
        for index, (document, text) in enumerate(zip(found, texts, strict=True))
    ]


async def test_a_round_trip_into_another_organization_loses_nothing(api: ControlApi) -> None:
    first = await api.other_organization()
    made = examples(20)
    assert len(made) >= 20
    job = await imported(api, ndjson(made), token=first)
    assert (job["state"], job["counts"]["created"], job["errors"]) == ("succeeded", len(made), [])
    original = [kept(campaign) for campaign in await campaigns(api, first)]
    assert len(original) == len(made)
    for file_format in TYPES:
        text = await raw(api, f"{api.url}/api/v1/campaigns/export?format={file_format}", first)
        if file_format == "csv":
            cells = list(csv.reader(io.StringIO(text.decode(), newline="")))
            assert not [
                cell for row in cells for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))
            ]
        other = await api.other_organization()
        job = await imported(api, text, f"format={file_format}&mode=create", token=other)
        assert (job["state"], job["counts"]["created"], job["errors"]) == ("succeeded", len(made), [])
        again = [kept(campaign) for campaign in await campaigns(api, other)]
        assert again == original, file_format
        # And the same file once more changes nothing.
        job = await imported(api, text, f"format={file_format}&mode=upsert", token=other)
        assert job["counts"] == {"created": 0, "updated": 0, "unchanged": len(made), "failed": 0}


async def test_an_export_has_the_filters_of_the_list(api: ControlApi) -> None:
    token = await api.other_organization()
    for n in range(6):
        kind = "COUPON" if n % 2 else "LOYALTY"
        await api.call("POST", "/campaigns", body(name=f"n{n}", type=kind), token=token)
    answer = await api.call("GET", "/campaigns/export?format=csv&type=COUPON&q=n", token=token)
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="campaigns-')
    text: bytes = answer.body
    rows = list(csv.DictReader(io.StringIO(text.decode(), newline="")))
    assert [row["name"] for row in rows] == ["n1", "n3", "n5"]
    assert rows[0]["settings.channels"] == "EMAIL;WEB;PUSH"
    assert rows[0]["budget.amount"] == "10000.00"
    listed = msgspec.json.decode(await raw(api, f"{api.url}/api/v1/campaigns/export?format=json", token))
    assert [found["name"] for found in listed] == [f"n{n}" for n in range(6)]
    assert listed[0]["metrics"]["impressions"] == 0
    none = await raw(api, f"{api.url}/api/v1/campaigns/export?format=json&status=ACTIVE", token)
    assert msgspec.json.decode(none) == []
    for wrong in ("format=xml", "limit=1", "sort=name", "status=x"):
        assert (await api.call("GET", f"/campaigns/export?{wrong}", token=token)).status == 400, wrong


async def test_an_export_of_many_pages_has_each_campaign_once(api: ControlApi) -> None:
    token = await api.other_organization()
    made = (await api.call("POST", "/campaigns", body(), token=token)).body
    await api.sql(MANY, made["id"], 1_499)
    found = await campaigns(api, token)
    ids = [campaign["id"] for campaign in found]
    assert len(ids) == len(set(ids)) == 1500
    plan = await api.sql(
        "EXPLAIN SELECT * FROM control.campaigns WHERE organization_id = $1::uuid AND deleted_at IS NULL "
        "AND id > $2::uuid ORDER BY organization_id, id LIMIT 500",
        made["id"],
        made["id"],
    )
    assert "campaigns_by_id" in str(plan)


async def test_an_export_that_cannot_go_on_breaks_off_visibly(api: ControlApi) -> None:
    """A client that read a part and took it for the whole would lose the rest."""
    token = await api.other_organization()
    made = (await api.call("POST", "/campaigns", body(description="x" * 9_000), token=token)).body
    await api.sql(MANY, made["id"], 6_000)
    database = api.dsn.rpartition("/")[2]
    server = await asyncpg.connect(api.dsn.rpartition("/")[0] + "/postgres")
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{api.url}/api/v1/campaigns/export?format=ndjson"
    try:
        async with aiohttp.ClientSession(read_bufsize=1024) as http, http.get(url, headers=headers) as answer:
            assert answer.status == 200
            await answer.content.readany()
            await server.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')
            await server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database
            )
            with pytest.raises(aiohttp.ClientError):
                await answer.read()
    finally:
        await server.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS true')
        await server.close()

    async def available() -> bool:
        return (await api.page("/ready")).status == 200

    assert await eventually(available, 30)


async def test_every_error_of_every_row_is_told(api: ControlApi) -> None:
    token = await api.other_organization()
    rows = [
        body(name="good", startDate="2020-01-01T00:00:00Z", endDate="2020-02-01T00:00:00Z"),
        {"name": "", "settings": {"channels": ["FAX"]}, "budget": {"amount": 0.5, "currency": "JPY"}},
        body(name="GOOD"),
        body(name="colour", colour="red"),
        body(name="metrics", status="ACTIVE", metrics={"clicks": 7}),
    ]
    data = ndjson(rows) + b'{nonsense\n{"name": "\\u0000", "description": "\\u0000"}\n'
    job = await imported(api, data, token=token)
    assert (job["state"], job["progress"]) == ("succeeded", {"rows": 7, "total": 7})
    assert job["counts"] == {"created": 2, "updated": 0, "unchanged": 0, "failed": 5}
    by_line: dict[int, set[str]] = {}
    for error in job["errors"]:
        by_line.setdefault(error["line"], set()).add(error["pointer"])
    assert by_line[2] >= {"/name", "/settings/channels/0", "/budget/amount", "/type", "/startDate"}
    assert (by_line[3], by_line[4], by_line[6]) == ({"/name"}, {"/colour"}, {""})
    assert by_line[7] >= {"/name", "/description"}
    lines = await raw(api, f"{api.url}{job['errorsUrl']}", token)
    assert [msgspec.json.decode(line) for line in lines.splitlines()] == job["errors"]
    found = {campaign["name"]: campaign for campaign in await campaigns(api, token)}
    assert found.keys() == {"good", "metrics"}
    assert found["good"]["startDate"] == "2020-01-01T00:00:00Z"
    assert (found["metrics"]["status"], found["metrics"]["metrics"]["clicks"]) == ("DRAFT", 0)
    actions = await api.sql(
        "SELECT action, count(*) AS n FROM control.audit WHERE organization_id = (SELECT organization_id "
        "FROM control.jobs WHERE id = $1::uuid) GROUP BY action ORDER BY action",
        job["id"],
    )
    assert {row["action"]: row["n"] for row in actions} == {
        "campaign.created": 2,
        "import.asked": 1,
        "import.finished": 1,
    }


async def test_an_upsert_finds_by_id_and_else_by_name(api: ControlApi) -> None:
    token = await api.other_organization()
    names = [f"Ümläut {n}" for n in range(3)]
    made = [(await api.call("POST", "/campaigns", body(name=name), token=token)).body for name in names]
    rows = [
        made[0] | {"name": "renamed"},
        {name: value for name, value in made[1].items() if name != "id"} | {"name": names[1].upper()},
        made[2],
        made[2] | {"id": new_id(), "name": "new"},
        made[2] | {"id": None, "name": "NEW", "description": "once more"},
        made[0] | {"name": names[2]},
    ]
    dry = await imported(api, ndjson(rows), "format=ndjson&mode=upsert&dryRun=true", token=token)
    assert dry["counts"] == {"created": 1, "updated": 3, "unchanged": 1, "failed": 1}
    assert [campaign["version"] for campaign in await campaigns(api, token)] == [1, 1, 1]
    job = await imported(api, ndjson(rows), "format=ndjson&mode=upsert", token=token)
    assert job["counts"] == {"created": 1, "updated": 3, "unchanged": 1, "failed": 1}
    assert [(error["line"], error["pointer"]) for error in job["errors"]] == [(6, "/name")]
    found = await campaigns(api, token)
    assert [(campaign["name"], campaign["version"]) for campaign in found] == [
        ("renamed", 2),
        (names[1].upper(), 2),
        (names[2], 1),
        ("new", 1) if found[3]["version"] == 1 else ("NEW", 2),
    ]
    assert found[3]["description"] == "once more"


async def test_an_upsert_compares_names_as_they_are_kept(api: ControlApi) -> None:
    token = await api.other_organization()
    made = (await api.call("POST", "/campaigns", body(name="Caf\u00e9"), token=token)).body
    rows = [{name: value for name, value in made.items() if name != "id"} | {"name": " CAFE\u0301"}]
    for query, name in (("&dryRun=true", "Caf\u00e9"), ("", "CAF\u00c9")):
        job = await imported(api, ndjson(rows), f"format=ndjson&mode=upsert{query}", token=token)
        assert job["counts"] == {"created": 0, "updated": 1, "unchanged": 0, "failed": 0}
        assert [campaign["name"] for campaign in await campaigns(api, token)] == [name]


async def test_two_campaigns_of_one_name_in_a_file_are_never_made_one(api: ControlApi) -> None:
    token = await api.other_organization()
    made = (await api.call("POST", "/campaigns", body(name="Summer"), token=token)).body
    cancelled, running = body(name="Summer", id=new_id()), body(name="summer", id=new_id())
    known = made | {"name": "Winter"}
    # More than a transaction takes lie between the last two.
    rows = [known, cancelled, running, *(body(id=new_id()) for _ in range(150)), running | {"name": "WINTER"}]
    for query, counts in (
        ("&dryRun=true", {"created": 151, "updated": 1, "unchanged": 0, "failed": 2}),
        ("", {"created": 151, "updated": 1, "unchanged": 0, "failed": 2}),
        ("", {"created": 0, "updated": 0, "unchanged": 152, "failed": 2}),
    ):
        job = await imported(api, ndjson(rows), f"format=ndjson&mode=upsert{query}", token=token)
        assert job["counts"] == counts
        assert [(error["line"], error["pointer"]) for error in job["errors"]] == [
            (3, "/name"),
            (154, "/name"),
        ]
    assert await api.sql("SELECT 1 FROM control.job_campaigns") == []


async def test_what_runs_follows_the_rules_of_updates(api: ControlApi) -> None:
    campaign = await api.active()
    allowed = campaign | {"description": "changed", "budget": {"amount": 20000, "currency": "EUR"}}
    job = await imported(api, ndjson([allowed]), "format=ndjson&mode=upsert")
    assert job["counts"]["updated"] == 1, job
    after = await api.get(campaign["id"])
    assert (after["status"], after["budgetVersion"], after["description"]) == ("ACTIVE", 2, "changed")
    account = await api.sql("SELECT budget FROM ledger.accounts WHERE campaign_id = $1::uuid", campaign["id"])
    assert account[0]["budget"] == 20_000_000_000
    job = await imported(api, ndjson([after | {"type": "COUPON"}]), "format=ndjson&mode=upsert")
    assert [error["pointer"] for error in job["errors"]] == ["/type"]
    await api.spend(campaign["id"], 19_000_000_000)
    lowered = after | {"budget": {"amount": 19500, "currency": "EUR"}}
    assert (await imported(api, ndjson([lowered]), "format=ndjson&mode=upsert"))["counts"]["updated"] == 1
    paused = await api.get(campaign["id"])
    assert (paused["status"], paused["statusReason"]) == ("PAUSED", "BUDGET_90")

    async def told() -> bool:
        return bool((await api.records(campaign_state.TOPIC, campaign["id"]))[-1]["status"] == "PAUSED")

    assert await eventually(told, 30)


async def test_rows_that_swap_their_names_are_taken_one_by_one(api: ControlApi) -> None:
    token = await api.other_organization()
    made = [(await api.call("POST", "/campaigns", body(name=f"n{n}"), token=token)).body for n in range(3)]
    chain = [made[0] | {"name": "n9"}, made[1] | {"name": "n0"}, made[2] | {"name": "n1"}]
    job = await imported(api, ndjson(chain), "format=ndjson&mode=upsert", token=token)
    assert job["counts"] == {"created": 0, "updated": 3, "unchanged": 0, "failed": 0}
    assert [campaign["name"] for campaign in await campaigns(api, token)] == ["n9", "n0", "n1"]


async def test_nothing_that_is_no_file_of_campaigns_is_taken(api: ControlApi) -> None:
    token = await api.other_organization()
    row = ndjson([body()])
    for query, headers, data, status in [
        ("", {}, row, 415),
        ("format=xml", {}, row, 400),
        ("format=csv&mode=replace", {}, row, 400),
        ("format=csv&colour=red", {}, row, 400),
        ("", {"Content-Type": "image/png"}, row, 415),
        ("format=ndjson", {"Content-Encoding": "br"}, row, 415),
        ("format=ndjson", {"Content-Encoding": "gzip"}, row, 400),
        ("format=ndjson", {"Content-Encoding": "gzip"}, gzip.compress(row)[:-9], 400),
        ("format=ndjson", {}, b"", 400),
        ("format=ndjson", {}, row + b"\n\xff\xfe", 422),
        ("format=csv", {}, "name\r\nä".encode("utf-16"), 422),
        ("format=csv", {}, b"name\nf\xe4hre", 422),
        ("format=csv", {}, b"name\n\xc3", 422),
        ("format=csv", {}, b"name\na\x00b", 422),
    ]:
        answer = await send(api, data, query, token=token, **headers)
        assert answer.status == status, (query, headers, data[:20], answer)
    wrong = await send(api, b"name\n" * 70_000 + b"\xff", "format=csv", token=token)
    assert "line 70001" in wrong.body["errors"][0]["detail"]
    assert await api.sql("SELECT 1 FROM control.jobs WHERE state = 'receiving'") == []
    broken = {
        "format=json": [b'{"name": "a"}', b"[{}", b"[" * 200_000, b"nonsense"],
        "format=csv": [b"name,colour\na,b", b'name\n"a', b"\n"],
    }
    for query, files in broken.items():
        for data in files:
            job = await imported(api, data, query, token=token)
            assert (job["state"], job["counts"]["created"]) == ("failed", 0), data[:20]
            assert job["failure"]
    assert await campaigns(api, token) == []
    assert "request.failed" not in api.log


async def test_bombs_and_floods_stop_at_their_bound(api: ControlApi) -> None:
    token = await api.other_organization()
    for bomb in (b" " * (65 << 20), b"[" * (65 << 20)):
        answer = await send(
            api, gzip.compress(bomb), "format=json", token=token, **{"Content-Encoding": "gzip"}
        )
        assert (answer.status, answer.body["type"]) == (413, "/problems/too-large")
    many = b"{}\n" * 100_001
    job = await imported(api, many, token=token)
    assert (job["state"], job["counts"]["failed"]) == ("failed", 0)
    assert "100000" in job["failure"]
    assert await campaigns(api, token) == []


async def test_gzip_and_content_type_say_how_to_read_a_file(api: ControlApi) -> None:
    token = await api.other_organization()
    two = gzip.compress(ndjson([body(name="a")])) + gzip.compress(ndjson([body(name="b")]))
    headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
    job = await done(api, await send(api, two, "mode=create", token=token, **headers), token=token)
    assert job["counts"]["created"] == 2
    bom = b"\xef\xbb\xbf" + msgspec.json.encode([body(name="c")])
    sent = await send(
        api, bom, "dryRun=false", token=token, **{"Content-Type": "application/json; charset=utf-8"}
    )
    assert (await done(api, sent, token=token))["counts"]["created"] == 1


async def test_a_repeated_import_is_the_same_job(api: ControlApi) -> None:
    token = await api.other_organization()
    data, key = ndjson([body(name="once")]), {"Idempotency-Key": new_id()}
    answers = await asyncio.gather(*(send(api, data, token=token, **key) for _ in range(3)))
    assert {answer.status for answer in answers} == {202}
    assert len({answer.body["jobId"] for answer in answers}) == 1
    again = await send(api, data, token=token, **key)
    assert again.headers["Idempotent-Replayed"] == "true"
    other = await send(api, ndjson([body(name="other")]), token=token, **key)
    assert (other.status, other.body["type"]) == (422, "/problems/idempotency-key-reused")
    assert (await done(api, again, token=token))["counts"]["created"] == 1
    assert len(await campaigns(api, token)) == 1
    assert await api.sql("SELECT 1 FROM control.jobs WHERE state = 'receiving'") == []


async def test_a_key_of_another_request_that_was_refused_is_told_so(api: ControlApi) -> None:
    """Of that one only its refusal is kept."""
    key = {"Idempotency-Key": new_id()}
    refused = await api.call("POST", f"/campaigns/{new_id()}/pause", headers=key)
    assert refused.status == 404, refused
    answer = await send(api, ndjson([body()]), **key)
    assert (answer.status, answer.body["type"]) == (422, "/problems/idempotency-key-reused")


async def test_a_repeated_import_is_answered_however_many_others_there_are(api: ControlApi) -> None:
    token = await api.other_organization()
    data, key = ndjson([body(name="once")]), {"Idempotency-Key": new_id()}
    first = await send(api, data, token=token, **key)
    await done(api, first, token=token)
    received = await many_received(api, first.body["jobId"])
    again = await send(api, data, token=token, **key)
    assert (again.status, again.body, again.headers["Location"]) == (
        202,
        first.body,
        first.headers["Location"],
    )
    assert again.headers["Idempotent-Replayed"] == "true"
    other = await send(api, ndjson([body(name="other")]), token=token, **key)
    assert (other.status, other.body["type"]) == (422, "/problems/idempotency-key-reused")
    refused = await send(api, data, token=token, **{"Idempotency-Key": new_id()})
    assert (refused.status, refused.body["type"]) == (409, "/problems/too-many-jobs")
    await api.sql("DELETE FROM control.jobs WHERE id = ANY ($1::uuid[])", received)


async def many_received(api: ControlApi, job_id: str) -> list[str]:
    """As many files that are still to come as an organization may have, each of which began two hours ago."""
    received = [new_id() for _ in range(MOST_UNFINISHED)]
    await api.sql(
        "INSERT INTO control.jobs (id, organization_id, state, format, mode, dry_run, created_by, actor, "
        "created_at) SELECT n.id, organization_id, 'receiving', format, mode, dry_run, created_by, actor, "
        "now() - interval '2 hours' FROM control.jobs AS j, unnest($2::uuid[]) AS n (id) "
        "WHERE j.id = $1::uuid",
        job_id,
        received,
    )
    return received


async def test_a_job_is_seen_by_its_own_organization_and_needs_its_permissions(api: ControlApi) -> None:
    answer = await send(api, ndjson([body()]))
    job = await done(api, answer)
    assert job["createdBy"] == api.made.admin_id
    other = await api.other_organization()
    path = f"/jobs/{job['id']}"
    for method, at in (("GET", path), ("GET", f"{path}/errors"), ("POST", f"{path}/cancel")):
        assert (await api.call(method, at, token=other)).status == 404
    over = await api.call("POST", f"{path}/cancel")
    assert (over.status, over.body["type"]) == (409, "/problems/job-finished")
    viewer = await token_of(api, Role.VIEWER)
    assert (await send(api, ndjson([body()]), token=viewer)).status == 403
    assert (await api.call("GET", path, token=viewer)).status == 200
    assert await api.sql("SELECT 1 FROM control.job_pieces WHERE job_id = $1::uuid", job["id"]) == []


def many(count: int) -> bytes:
    return ndjson(body(name=f"many {n}") for n in range(count))


async def progress(api: ControlApi, path: str, token: str, least: int) -> Any:
    async def look() -> Any:
        job = (await api.call("GET", path, token=token)).body
        return job if job["progress"]["rows"] >= least or job["state"] == "succeeded" else None

    return await eventually(look, 60)


async def applied_once(api: ControlApi, token: str, job_id: str, count: int) -> None:
    found = await campaigns(api, token)
    assert sorted(campaign["name"] for campaign in found) == sorted(f"many {n}" for n in range(count))
    rows = await api.sql(
        "SELECT count(*) AS n, count(DISTINCT subject_id) AS once FROM control.audit WHERE reason = $1 "
        "AND action = 'campaign.created'",
        f"import {job_id}",
    )
    assert (rows[0]["n"], rows[0]["once"]) == (count, count)


async def test_a_job_goes_on_after_kill_9(api: ControlApi) -> None:
    token = await api.other_organization()
    answer = await send(api, many(3_000), token=token)
    path = f"/jobs/{answer.body['jobId']}"
    before = await progress(api, path, token, 200)
    assert before["state"] == "running"
    api.kill()
    await api.start()
    job = await done(api, answer, token=token)
    assert (job["state"], job["progress"]) == ("succeeded", {"rows": 3_000, "total": 3_000})
    assert job["counts"] == {"created": 3_000, "updated": 0, "unchanged": 0, "failed": 0}
    await applied_once(api, token, job["id"], 3_000)


async def test_a_worker_that_was_frozen_applies_nothing_twice(
    api: ControlApi, kafka: str, tmp_path: Path
) -> None:
    async with running_control_api(kafka, api.dsn, tmp_path) as second:
        token = await api.other_organization()
        answer = await send(api, many(2_000), token=token)
        path = f"/jobs/{answer.body['jobId']}"
        await progress(api, path, token, 200)
        claimed = f'"job": "{answer.body["jobId"]}"'
        frozen = next(replica for replica in (api, second) if claimed in replica.log)
        other = second if frozen is api else api
        os.kill(frozen.pid, signal.SIGSTOP)
        try:
            job = await done(other, answer, token=token)
        finally:
            os.kill(frozen.pid, signal.SIGCONT)
        assert job["counts"] == {"created": 2_000, "updated": 0, "unchanged": 0, "failed": 0}

        async def noticed() -> bool:
            return (await frozen.page("/ready")).status == 200

        assert await eventually(noticed, 30)
        await applied_once(other, token, job["id"], 2_000)


async def test_a_job_goes_on_after_its_connections_are_lost(api: ControlApi) -> None:
    """Whether a transaction was committed whose answer was lost, the job itself tells."""
    token = await api.other_organization()
    answer = await send(api, many(2_000), token=token)
    path = f"/jobs/{answer.body['jobId']}"
    for least in (100, 500, 900, 1_300):
        await progress(api, path, token, least)
        await api.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'control_api' "
            "AND datname = current_database()"
        )

        async def available() -> bool:
            return (await api.page("/ready")).status == 200

        assert await eventually(available, 30)
    job = await done(api, answer, token=token)
    assert job["counts"] == {"created": 2_000, "updated": 0, "unchanged": 0, "failed": 0}
    await applied_once(api, token, job["id"], 2_000)


async def test_old_jobs_are_forgotten_and_there_are_not_too_many(api: ControlApi) -> None:
    token = await api.other_organization()
    old = (await imported(api, ndjson([{}]), token=token))["id"]
    fresh = (await imported(api, ndjson([{}]), token=token))["id"]
    await api.sql("UPDATE control.jobs SET finished_at = now() - interval '31 days' WHERE id = $1::uuid", old)
    received = await many_received(api, fresh)
    refused = await send(api, ndjson([body()]), token=token)
    assert (refused.status, refused.body["type"]) == (409, "/problems/too-many-jobs")
    database = Database.of(api.dsn, pool_size=1)
    forgetting = asyncio.create_task(imports.forget(database, utc_now))

    async def forgotten() -> bool:
        left = await api.sql("SELECT id FROM control.jobs WHERE id = ANY($1::uuid[])", [old, *received])
        return not left

    try:
        assert await eventually(forgotten, 30)
    finally:
        forgetting.cancel()
        database.close()
    assert (await api.call("GET", f"/jobs/{old}", token=token)).status == 404
    assert (await api.call("GET", f"/jobs/{fresh}", token=token)).status == 200
    assert (await imported(api, ndjson([body()]), token=token))["counts"]["created"] == 1


async def test_a_job_is_cancelled_between_two_transactions(api: ControlApi) -> None:
    token = await api.other_organization()
    answer = await send(api, many(3_000), token=token)
    path = f"/jobs/{answer.body['jobId']}"
    await progress(api, path, token, 1)
    asked = await api.call("POST", f"{path}/cancel", token=token)
    assert asked.status == 200, asked
    job = await done(api, answer, token=token)
    assert job["state"] == "cancelled"
    created = len(await campaigns(api, token))
    assert created == job["counts"]["created"] == job["progress"]["rows"] < 3_000
