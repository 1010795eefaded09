"""Idempotency-Key: a POST that is sent again is done once, whenever the first attempt broke off."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from control_api.domain.audit import AuditEntry, ChainedEntry, breaks
from schemas import domain_events
from schemas.ids import new_id
from tests.integration.control import Answer, ControlApi, body, running_control_api


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(
    kafka: str, postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlApi]:
    async with running_control_api(kafka, postgres_dsn, Path(tmp_path_factory.mktemp("repeats"))) as running:
        yield running


async def post(api: ControlApi, path: str, json: object, key: str) -> Answer:
    return await api.call("POST", path, json, headers={"Idempotency-Key": key})


async def count(api: ControlApi, name: str) -> int:
    return int((await api.sql("SELECT count(*) FROM control.campaigns WHERE name = $1", name))[0][0])


async def test_the_same_request_again_is_answered_as_the_first_time(api: ControlApi) -> None:
    asked, key = body(), new_id()
    first, again = await post(api, "/campaigns", asked, key), await post(api, "/campaigns", asked, key)
    assert first.status == again.status == 201
    assert first.body == again.body
    assert first.headers["ETag"] == again.headers["ETag"]
    assert first.headers["Location"] == again.headers["Location"]
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert first.headers["X-Request-ID"] != again.headers["X-Request-ID"]
    assert len(again.headers.getall("X-Request-ID")) == 1
    assert await count(api, asked["name"]) == 1


async def test_another_request_with_the_key_is_refused(api: ControlApi) -> None:
    key = new_id()
    assert (await post(api, "/campaigns", body(), key)).status == 201
    other = body()
    refused = await post(api, "/campaigns", other, key)
    assert (refused.status, refused.body["type"]) == (422, "/problems/idempotency-key-reused")
    assert await count(api, other["name"]) == 0


async def test_many_at_once_do_it_once(api: ControlApi) -> None:
    asked, key = body(), new_id()
    answers = await asyncio.gather(*(post(api, "/campaigns", asked, key) for _ in range(8)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.body["id"] for answer in answers}) == 1
    assert await count(api, asked["name"]) == 1


async def test_what_was_committed_before_its_answer_was_lost_is_not_done_again(api: ControlApi) -> None:
    """A kill between commit and answer leaves the transaction's result, and no answer."""
    asked, key = body(), new_id()
    first = await post(api, "/campaigns", asked, key)
    gone = await api.sql("DELETE FROM control.repeats WHERE step = -1 RETURNING id")
    assert gone
    again = await post(api, "/campaigns", asked, key)
    assert again.status == 201
    assert again.body == first.body
    assert await count(api, asked["name"]) == 1


async def test_a_transition_sent_again_is_one_transition(api: ControlApi) -> None:
    draft, key = await api.create(), new_id()
    path = f"/campaigns/{draft['id']}/activate"
    first = await post(api, path, {"startNow": True}, key)
    await api.sql("DELETE FROM control.repeats WHERE step = -1")
    again = await post(api, path, {"startNow": True}, key)
    assert first.status == again.status == 200
    assert first.body["version"] == again.body["version"] == 2
    kinds = [event["type"] for event in await api.records(domain_events.TOPIC, draft["id"])]
    assert kinds.count("flightline.campaign.activated") == 1


async def test_a_refusal_is_answered_again_and_keeps_nothing_from_being_done_with_another_key(
    api: ControlApi,
) -> None:
    draft, key = await api.create(), new_id()
    path = f"/campaigns/{draft['id']}/pause"
    assert (await post(api, path, {}, key)).status == 409
    await api.call("POST", f"/campaigns/{draft['id']}/activate", {"startNow": True})
    assert (await post(api, path, {}, key)).status == 409
    assert (await post(api, path, {}, new_id())).status == 200


async def test_a_new_keys_text_is_answered_again_and_stands_nowhere_in_clear(api: ControlApi) -> None:
    asked, key = {"name": "shop", "kind": "server"}, new_id()
    first = await post(api, "/api-keys", asked, key)
    await api.sql("DELETE FROM control.repeats WHERE step = -1")
    again = await post(api, "/api-keys", asked, key)
    assert first.status == again.status == 201
    assert first.body["key"] == again.body["key"]
    kept = await api.sql("SELECT result FROM control.repeats")
    assert all(first.body["key"].encode() not in row["result"] for row in kept)


async def test_another_organization_has_keys_of_its_own(api: ControlApi) -> None:
    key, token = new_id(), await api.other_organization()
    mine = await post(api, "/campaigns", body(), key)
    theirs = await api.call("POST", "/campaigns", body(), token=token, headers={"Idempotency-Key": key})
    assert mine.status == theirs.status == 201
    assert mine.body["id"] != theirs.body["id"]


@pytest.mark.parametrize("key", ["", "a b", "ü", "x" * 256])
async def test_a_key_that_is_none_is_malformed(api: ControlApi, key: str) -> None:
    asked = body()
    refused = await post(api, "/campaigns", asked, key)
    assert (refused.status, refused.body["type"]) == (400, "/problems/malformed-request")
    assert await count(api, asked["name"]) == 0


async def test_a_kill_in_the_middle_of_many_requests_doubles_nothing(api: ControlApi) -> None:
    asked = {new_id(): body() for _ in range(40)}

    async def until_done(key: str) -> Answer:
        while True:
            try:
                answer = await post(api, "/campaigns", asked[key], key)
            except (OSError, aiohttp.ClientError):
                await asyncio.sleep(0.05)
                continue
            if answer.status == 201:
                return answer

    sending = [asyncio.create_task(until_done(key)) for key in asked]
    await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
    api.kill()
    await api.start()
    await asyncio.gather(*sending)
    names = [wanted["name"] for wanted in asked.values()]
    found = await api.sql("SELECT count(*) FROM control.campaigns WHERE name = ANY($1)", names)
    assert found[0][0] == len(names)


async def test_every_change_stands_in_a_whole_chain(api: ControlApi) -> None:
    campaign = await api.active()
    paused = await api.call("POST", f"/campaigns/{campaign['id']}/pause", {"justification": "too dear"})
    assert paused.status == 200
    rows = [
        ChainedEntry(
            row["seq"],
            AuditEntry(
                **{
                    name: str(row[name]) if name == "organization_id" else row[name]
                    for name in AuditEntry.__struct_fields__
                }
            ),
            row["hash"],
        )
        for row in await api.sql(
            "SELECT * FROM control.audit WHERE organization_id = $1::uuid ORDER BY seq",
            api.made.organization_id,
        )
    ]
    assert not list(breaks(rows))
    mine = [row.entry for row in rows if row.entry.subject_id == campaign["id"]]
    assert [entry.action for entry in mine] == ["campaign.created", "campaign.activated", "campaign.paused"]
    assert {entry.actor for entry in mine} == {api.made.admin_id}
    assert mine[2].reason == "too dear"
    assert mine[2].correlation_id == paused.headers["X-Request-ID"]
    assert mine[2].address
    assert "127.0.0.1" not in mine[2].address
    assert '"status":"PAUSED"' in (mine[2].after or "")
