"""Duplicates, dry runs: what they make, and what they leave alone."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from schemas import campaign_state, domain_events
from schemas.ids import new_id
from tests.integration.control import DAY, ControlApi, eventually, now, running_control_api


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(
    kafka: str, postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlApi]:
    folder = Path(tmp_path_factory.mktemp("transitions"))
    async with running_control_api(kafka, postgres_dsn, folder) as running:
        yield running


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def everything(api: ControlApi, campaign_id: str) -> dict[str, Any]:
    """All that a change of the campaign would write."""
    counted = await api.sql("SELECT count(*) AS audit, max(seq) AS seq FROM control.audit")
    row = await api.sql(
        "SELECT to_jsonb(c) AS c FROM control.campaigns AS c WHERE id = $1::uuid", campaign_id
    )
    outbox = await api.sql("SELECT last_value FROM control.outbox_id_seq")
    campaigns = await api.sql("SELECT count(*) AS n FROM control.campaigns")
    return {"audit": counted, "row": row, "outbox": outbox, "campaigns": campaigns}


async def test_a_copy_is_a_new_draft_that_runs_for_as_long(api: ControlApi) -> None:
    source = await api.active()
    await api.spend(source["id"], 5_000_000)
    await api.sql(
        "UPDATE control.campaigns "
        "SET start_date = date_trunc('milliseconds', now() - interval '40 days 3 hours'), "
        "end_date = date_trunc('milliseconds', now() - interval '10 days') WHERE id = $1::uuid",
        source["id"],
    )
    source = await api.get(source["id"])
    answer = await api.call("POST", f"/campaigns/{source['id']}/duplicate")
    copy = answer.body
    assert answer.status == 201, answer
    assert answer.headers["Location"] == f"/api/v1/campaigns/{copy['id']}"
    assert copy["name"] == f"{source['name']} (copy)"
    assert (copy["status"], copy["version"], copy["metrics"]["cost"]["amount"]) == ("DRAFT", 1, 0)
    for field in ("description", "type", "targetingRules", "budget", "settings"):
        assert copy[field] == source[field], field
    start, end = moment(copy["startDate"]), moment(copy["endDate"])
    old_start, old_end = moment(source["startDate"]), moment(source["endDate"])
    assert now() < start <= now() + DAY
    assert end - start == old_end - old_start
    assert (start - old_start) % DAY == timedelta(0)
    assert (await api.get(copy["id"])) == copy

    async def told() -> list[Any]:
        return await api.records(domain_events.TOPIC, copy["id"])

    created = (await eventually(told, 30))[0]
    assert created["type"] == "flightline.campaign.created"
    assert source["id"] in created["data"]["justification"]


async def test_a_start_date_in_the_body_overrides_and_follows_the_rules(api: ControlApi) -> None:
    source = await api.create()
    path = f"/campaigns/{source['id']}/duplicate"
    kept = (await api.call("POST", path)).body
    assert (kept["startDate"], kept["endDate"]) == (source["startDate"], source["endDate"])
    start = (now() + 90 * DAY).replace(microsecond=0)
    moved = (await api.call("POST", path, {"startDate": start.isoformat()})).body
    assert moment(moved["startDate"]) == start
    length = moment(source["endDate"]) - moment(source["startDate"])
    assert moment(moved["endDate"]) - start == length
    for wrong in (now() - DAY, datetime.fromisoformat("9999-12-30T00:00:00+00:00")):
        refused = await api.call("POST", path, {"startDate": wrong.isoformat()})
        assert (refused.status, refused.body["type"]) == (422, "/problems/validation"), wrong
    assert (await api.call("POST", path, {"name": "x"})).status == 400
    assert (await api.call("POST", f"/campaigns/{new_id()}/duplicate")).status == 404
    other = await api.other_organization()
    assert (await api.call("POST", path, token=other)).status == 404


async def test_of_many_copies_at_once_each_has_its_own_name(api: ControlApi) -> None:
    source = await api.create(name="n" * 252 + new_id()[-3:])
    path = f"/campaigns/{source['id']}/duplicate"
    await api.create(name=(source["name"][:246] + " (copy 3)").upper())
    answers = await asyncio.gather(*(api.call("POST", path) for _ in range(8)))
    assert [answer.status for answer in answers] == [201] * 8
    names = {answer.body["name"] for answer in answers}
    assert len(names) == 8
    assert max(map(len, names)) == 255
    numbers = sorted(name.rpartition(" (copy")[2].strip(" )") or "1" for name in names)
    assert numbers == sorted(["1", "2", "4", "5", "6", "7", "8", "9"])


async def test_a_repeated_copy_is_the_same_copy(api: ControlApi) -> None:
    source = await api.create()
    headers = {"Idempotency-Key": new_id()}
    path = f"/campaigns/{source['id']}/duplicate"
    first = await api.call("POST", path, headers=headers)
    again = await api.call("POST", path, headers=headers)
    assert (again.status, again.body["id"]) == (201, first.body["id"])
    found = await api.call("GET", f"/campaigns?q={source['name']}")
    assert len(found.body["items"]) == 2


async def test_a_dry_run_says_what_would_happen_and_changes_nothing(api: ControlApi) -> None:
    draft, active = await api.create(), await api.active()
    paused = await api.active()
    await api.call("POST", f"/campaigns/{paused['id']}/pause")
    cases: list[tuple[dict[str, Any], str, str, Any, str | None]] = [
        (draft, "POST", "/activate", {"startNow": True}, "ACTIVE"),
        (active, "POST", "/pause", {}, "PAUSED"),
        (paused, "POST", "/activate", {}, "ACTIVE"),
        (active, "POST", "/stop", {"justification": "x"}, "CANCELLED"),
        (draft, "POST", "/duplicate", {}, "DRAFT"),
        (draft, "DELETE", "", None, "DRAFT"),
        (draft, "POST", "/pause", {}, None),
        (active, "POST", "/activate", {}, None),
        (active, "DELETE", "", None, None),
    ]

    async def published() -> bool:
        return not (await api.sql("SELECT 1 FROM control.outbox"))

    await eventually(published, 30)
    for campaign, method, act, sent, status in cases:
        before = await everything(api, campaign["id"])
        answer = await api.call(method, f"/campaigns/{campaign['id']}{act}?dryRun=true", sent)
        assert answer.status == 200, answer
        assert await everything(api, campaign["id"]) == before
        if status is None:
            assert answer.body.keys() == {"possible", "problem"}
            assert answer.body["possible"] is False
            assert answer.body["problem"]["status"] == 409
            real = await api.call(method, f"/campaigns/{campaign['id']}{act}", sent)
            told = ("type", "detail", "currentStatus", "allowedTransitions")
            assert {name: real.body[name] for name in told} == {
                name: answer.body["problem"][name] for name in told
            }
        else:
            assert answer.body.keys() == {"possible", "campaign"}
            assert (answer.body["possible"], answer.body["campaign"]["status"]) == (True, status)
    assert len(await api.records(campaign_state.TOPIC, draft["id"])) == 1
    really = await api.call("POST", f"/campaigns/{draft['id']}/activate?dryRun=false", {"startNow": True})
    assert (really.status, really.body["status"]) == (200, "ACTIVE")


async def test_a_dry_run_refuses_what_is_wrong_with_the_request_itself(api: ControlApi) -> None:
    draft = await api.create()
    path = f"/campaigns/{draft['id']}"
    assert (await api.call("POST", f"{path}/activate?dryRun=maybe")).status == 400
    assert (await api.call("POST", f"{path}/activate?dryrun=true")).status == 400
    assert (await api.call("POST", f"{path}/stop?dryRun=true")).status == 422
    assert (await api.call("POST", f"/campaigns/{new_id()}/pause?dryRun=true")).status == 404
    stale = {"If-Match": '"7"'}
    assert (await api.call("POST", f"{path}/activate?dryRun=true", headers=stale)).status == 412
    past = await api.call("POST", f"{path}/duplicate?dryRun=true", {"startDate": "2020-01-01T00:00:00Z"})
    assert (past.body["possible"], past.body["problem"]["errors"][0]["pointer"]) == (False, "/startDate")
