"""One step of many campaigns."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from schemas import campaign_state
from schemas.ids import new_id
from tests.integration.control import ControlApi, body, eventually, running_control_api
from tests.integration.drafts import MANY


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(
    kafka: str, postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlApi]:
    async with running_control_api(kafka, postgres_dsn, Path(tmp_path_factory.mktemp("bulk"))) as running:
        yield running


async def drafts(api: ControlApi, count: int) -> list[str]:
    return [(await api.create())["id"] for _ in range(count)]


def statuses(answer: Any) -> list[int]:
    assert answer.status == 207, answer
    return [result["status"] for result in answer.body["results"]]


async def test_each_id_has_its_result_in_the_order_given(api: ControlApi) -> None:
    ids = await drafts(api, 3)
    other = await api.other_organization()
    foreign = (await api.call("POST", "/campaigns", body(), token=other)).body["id"]
    active = (await api.active())["id"]
    asked = [ids[2], foreign, ids[0], "no id", active, ids[1].upper(), new_id()]
    answer = await api.call("POST", "/campaigns/bulk/activate", {"ids": asked})
    assert statuses(answer) == [200, 404, 200, 404, 409, 200, 404]
    results = answer.body["results"]
    assert [result["id"] for result in results] == asked
    assert (answer.body["succeeded"], answer.body["failed"]) == (3, 4)
    first = results[0]["campaign"]
    assert (first["status"], first["propagation"], first["version"]) == ("ACTIVE", "published", 2)
    assert (await api.get(ids[2]))["status"] == "ACTIVE"
    problem = results[4]["problem"]
    assert problem["type"] == "/problems/transition-not-allowed"
    assert (problem["currentStatus"], problem["allowedTransitions"]) == ("ACTIVE", ["pause", "stop"])
    assert problem["instance"] == f"/api/v1/campaigns/{active}"
    assert (await api.call("GET", f"/campaigns/{foreign}", token=other)).body["version"] == 1
    states = await api.records(campaign_state.TOPIC, ids[1])
    assert [state["status"] for state in states] == ["DRAFT", "ACTIVE"]
    audit = await api.sql("SELECT action FROM control.audit WHERE subject_id = $1 ORDER BY seq", ids[1])
    assert [row["action"] for row in audit] == ["campaign.created", "campaign.activated"]


async def test_a_warning_of_activation_is_given_for_each_campaign(api: ControlApi) -> None:
    free = body()["settings"] | {"pricing": {"model": "CPM", "price": {"amount": 0, "currency": "EUR"}}}
    ids = [(await api.create(settings=free))["id"], *await drafts(api, 1)]
    for query in ("?dryRun=true", ""):
        answer = await api.call("POST", f"/campaigns/bulk/activate{query}", {"ids": ids})
        assert statuses(answer) == [200, 200]
        assert [len(result["campaign"]["warnings"]) for result in answer.body["results"]] == [1, 0]


async def test_the_steps_are_those_of_one_campaign(api: ControlApi) -> None:
    ids = await drafts(api, 2)
    started = await api.call("POST", "/campaigns/bulk/activate", {"ids": ids, "startNow": True})
    assert {result["campaign"]["effectiveStatus"] for result in started.body["results"]} == {"ACTIVE"}
    assert statuses(await api.call("POST", "/campaigns/bulk/delete", {"ids": ids})) == [409, 409]
    assert statuses(await api.call("POST", "/campaigns/bulk/pause", {"ids": ids})) == [200, 200]
    assert (await api.call("POST", "/campaigns/bulk/stop", {"ids": ids})).status == 422
    why = {"ids": ids[:1], "justification": "over"}
    assert statuses(await api.call("POST", "/campaigns/bulk/stop", why)) == [200]
    audit = await api.sql("SELECT reason FROM control.audit WHERE subject_id = $1 ORDER BY seq", ids[0])
    assert audit[-1]["reason"] == "over"
    gone = await api.call("POST", "/campaigns/bulk/delete", {"ids": ids})
    assert statuses(gone) == [204, 204]
    assert "campaign" not in gone.body["results"][0]
    assert (await api.call("GET", f"/campaigns/{ids[0]}")).status == 404


async def test_all_or_nothing_is_one_transaction(api: ControlApi) -> None:
    ids = await drafts(api, 3)
    wrong = [*ids, new_id()]
    failed = await api.call("POST", "/campaigns/bulk/activate", {"ids": wrong, "atomic": True})
    assert statuses(failed) == [424, 424, 424, 404]
    assert failed.body["results"][0]["problem"]["type"] == "/problems/not-carried-out"
    assert (failed.body["succeeded"], failed.body["failed"]) == (0, 4)
    assert [(await api.get(at))["version"] for at in ids] == [1, 1, 1]
    audit = await api.sql("SELECT count(*) AS n FROM control.audit WHERE subject_id = ANY($1)", ids)
    assert audit[0]["n"] == 3
    done = await api.call("POST", "/campaigns/bulk/activate", {"ids": ids, "atomic": True})
    assert statuses(done) == [200, 200, 200]


async def test_an_id_given_twice_is_refused(api: ControlApi) -> None:
    ids = await drafts(api, 2)
    twice = await api.call("POST", "/campaigns/bulk/activate", {"ids": [*ids, ids[0].upper()]})
    assert (twice.status, twice.body["errors"][0]["pointer"]) == (422, "/ids/2")
    assert [(await api.get(at))["version"] for at in ids] == [1, 1]
    for wrong in ({}, {"ids": []}, {"ids": [1]}, {"ids": [new_id() for _ in range(1001)]}, {"ids": "x"}):
        assert (await api.call("POST", "/campaigns/bulk/pause", wrong)).status == 422, str(wrong)[:80]
    assert (await api.call("POST", "/campaigns/bulk/pause", {"ids": ids, "colour": 1})).status == 400


async def test_a_dry_run_of_many_changes_nothing(api: ControlApi) -> None:
    ids = await drafts(api, 2)
    tried = await api.call("POST", "/campaigns/bulk/activate?dryRun=true", {"ids": [*ids, new_id()]})
    assert statuses(tried) == [200, 200, 404]
    assert tried.body["results"][0]["campaign"]["status"] == "ACTIVE"
    assert [(await api.get(at))["version"] for at in ids] == [1, 1]


async def test_a_repeated_request_is_carried_out_once(api: ControlApi) -> None:
    first = await api.create()
    ids = [row["id"] for row in await api.sql(MANY, first["id"], 120)]
    headers = {"Idempotency-Key": new_id()}
    asked = {"ids": ids, "startNow": True}
    answers = [await api.call("POST", "/campaigns/bulk/activate", asked, headers=headers) for _ in range(2)]
    assert statuses(answers[0]) == [200] * 120
    assert answers[0].body == answers[1].body
    versions = await api.sql("SELECT DISTINCT version FROM control.campaigns WHERE id = ANY($1::uuid[])", ids)
    assert [row["version"] for row in versions] == [2]


async def test_a_request_that_broke_off_goes_on_where_it_stopped(api: ControlApi) -> None:
    """Its second group meets a lock that is not given; the first one is done by then."""
    first = await api.create()
    ids = sorted(row["id"] for row in await api.sql(MANY, first["id"], 75))
    headers = {"Idempotency-Key": new_id()}
    asked = {"ids": ids, "startNow": True}
    holder = await asyncpg.connect(api.dsn)
    try:
        holding = holder.transaction()
        await holding.start()
        await holder.execute("SELECT FROM ledger.accounts WHERE campaign_id = $1::uuid FOR UPDATE", ids[60])
        waiting = asyncio.create_task(api.call("POST", "/campaigns/bulk/activate", asked, headers=headers))

        async def first_group() -> bool:
            done = "SELECT 1 FROM control.campaigns WHERE id = $1::uuid AND version = 2"
            return bool(await api.sql(done, ids[0]))

        assert await eventually(first_group, 30)
        api.kill()
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever a broken connection is to the client
            await waiting
        await holding.rollback()
    finally:
        await holder.close()
    await api.start()
    again = await api.call("POST", "/campaigns/bulk/activate", asked, headers=headers)
    assert statuses(again) == [200] * 75
    versions = await api.sql(
        "SELECT version, count(*) AS n FROM control.campaigns WHERE id = ANY($1::uuid[]) GROUP BY version",
        ids,
    )
    assert [(row["version"], row["n"]) for row in versions] == [(2, 75)]
    audit = await api.sql("SELECT count(*) AS n FROM control.audit WHERE subject_id = ANY($1)", ids)
    assert audit[0]["n"] == 75


async def test_what_a_request_did_before_it_broke_off_is_told(api: ControlApi) -> None:
    """Without a key that could be sent again: its second group meets a lock that is not given for long."""
    first = await api.create()
    ids = sorted(row["id"] for row in await api.sql(MANY, first["id"], 75))
    holder = await asyncpg.connect(api.dsn)
    try:
        holding = holder.transaction()
        await holding.start()
        await holder.execute("SELECT FROM ledger.accounts WHERE campaign_id = $1::uuid FOR UPDATE", ids[60])
        answer = await api.call("POST", "/campaigns/bulk/activate", {"ids": ids, "startNow": True})
        await holding.rollback()
    finally:
        await holder.close()
    assert statuses(answer) == [200] * 50 + [503] * 25
    assert answer.body["results"][-1]["problem"]["type"] == "/problems/unavailable"
    done = await api.sql(
        "SELECT count(*) AS n FROM control.campaigns WHERE id = ANY($1::uuid[]) AND version = 2", ids
    )
    assert done[0]["n"] == 50


@pytest.mark.parametrize("atomic", [False, True])
async def test_a_thousand_campaigns_are_one_request(api: ControlApi, atomic: bool) -> None:
    first = await api.create()
    ids = [row["id"] for row in await api.sql(MANY, first["id"], 1000)]
    for act, status in (("activate", 200), ("pause", 200), ("delete", 204)):
        answer = await api.call("POST", f"/campaigns/bulk/{act}", {"ids": ids, "atomic": atomic})
        assert statuses(answer) == [status] * 1000

    async def published() -> bool:
        return not await api.sql("SELECT 1 FROM control.outbox")

    assert await eventually(published, 60)
    last = await api.records(campaign_state.TOPIC, ids[-1])
    assert [state["version"] for state in last] == [2, 3, 4]


async def test_two_bulk_requests_over_the_same_ids_do_not_deadlock(api: ControlApi) -> None:
    first = await api.create()
    ids = [row["id"] for row in await api.sql(MANY, first["id"], 200)]
    answers = await asyncio.gather(
        *(
            api.call("POST", "/campaigns/bulk/activate", {"ids": order, "atomic": True, "startNow": True})
            for order in (ids, ids[::-1], sorted(ids))
        )
    )
    done = sorted(answer.body["succeeded"] for answer in answers)
    assert [answer.status for answer in answers] == [207] * 3
    assert done == [0, 0, 200]
