"""Control keys: what opens this API in place of a token."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from schemas import access_keys, domain_events
from schemas.access_keys import hash_key
from tests.integration.access import log_in, make_key, make_user, with_key
from tests.integration.control import DAY, ControlApi, body, eventually, now, running_control_api


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(
    kafka: str, postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlApi]:
    folder = Path(tmp_path_factory.mktemp("control_keys"))
    async with running_control_api(kafka, postgres_dsn, folder) as running:
        yield running


async def test_a_control_key_is_shown_once_and_acts_in_its_own_name(api: ControlApi) -> None:
    made = await make_key(api, "campaigns:read", "campaigns:write", "campaigns:read")
    key = made["key"]
    assert key.startswith("ck_")
    assert made["hint"] == key[:8]
    assert (made["kind"], made["scopes"]) == ("control", ["campaigns:read", "campaigns:write"])
    listed = (await api.call("GET", "/api-keys")).body["items"]
    assert key not in str(listed)
    assert [item["kind"] for item in listed if item["id"] == made["id"]] == ["control"]
    assert {"publishable", "server", "control"} <= {item["kind"] for item in listed}
    rows = await api.sql(
        "SELECT k::text, key_hash FROM control.control_keys k WHERE id = $1::uuid", made["id"]
    )
    assert key not in rows[0][0]
    assert rows[0]["key_hash"] == hash_key(key)
    campaign = await with_key(api, key, "POST", "/campaigns", body())
    assert campaign.status == 201, campaign
    assert campaign.body["createdBy"] == api.made.admin_id
    me = (await with_key(api, key, "GET", "/auth/me")).body
    assert (me["keyId"], me["permissions"]) == (made["id"], ["campaigns:read", "campaigns:write"])
    found = (await api.call("GET", f"/audit?actor=key:{made['id']}")).body["items"]
    assert [(item["action"], item["subjectId"]) for item in found] == [
        ("campaign.created", campaign.body["id"])
    ]

    async def told() -> list[str]:
        events = await api.records(domain_events.TOPIC, campaign.body["id"])
        return [event["data"]["actor"] for event in events]

    assert await eventually(told, 30) == [f"key:{made['id']}"]


async def test_keys_of_all_kinds_are_listed_in_pages(api: ControlApi) -> None:
    token = await api.other_organization()
    kinds = ["publishable", "server", "control", "server", "publishable"]
    for kind in kinds[2:]:  # the first two are there
        asked = {"name": "k", "kind": kind} | ({"scopes": ["campaigns:read"]} if kind == "control" else {})
        assert (await api.call("POST", "/api-keys", asked, token=token)).status == 201
    listed, path = [], "/api-keys?limit=2"
    while path:
        answer = await api.call("GET", path, token=token)
        assert answer.status == 200, answer
        listed.append([item["kind"] for item in answer.body["items"]])
        cursor = answer.body["nextCursor"]
        assert ("Link" in answer.headers) == (cursor is not None)
        path = f"/api-keys?limit=2&cursor={cursor}" if cursor else ""
    assert listed == [kinds[:2], kinds[2:4], kinds[4:]]
    assert (await api.call("GET", "/api-keys?cursor=x", token=token)).status == 400


async def test_the_doors_are_told_nothing_of_control_keys(api: ControlApi) -> None:
    key = (await make_key(api, "campaigns:read"))["key"]
    marker = await api.call("POST", "/api-keys", {"name": "m", "kind": "server"})

    async def published() -> bool:
        return bool(await api.records(access_keys.TOPIC, hash_key(marker.body["key"])))

    assert await eventually(published, 30)
    assert not await api.records(access_keys.TOPIC, hash_key(key))
    refused = await with_key(api, marker.body["key"], "GET", "/campaigns")
    assert (refused.status, "door" in refused.body["detail"]) == (401, True)


async def test_a_revoked_or_expired_key_is_refused(api: ControlApi) -> None:
    made = await make_key(api, "campaigns:read")
    assert (await with_key(api, made["key"], "GET", "/campaigns")).status == 200
    assert (await api.call("DELETE", f"/api-keys/{made['id']}")).status == 204
    assert (await api.call("DELETE", f"/api-keys/{made['id']}")).status == 204
    assert (await with_key(api, made["key"], "GET", "/campaigns")).status == 401
    expiring = await make_key(api, "campaigns:read", expiresAt=(now() + timedelta(seconds=2)).isoformat())
    assert (await with_key(api, expiring["key"], "GET", "/campaigns")).status == 200

    async def expired() -> bool:
        return (await with_key(api, expiring["key"], "GET", "/campaigns")).status == 401

    assert await eventually(expired, 15)
    for wrong in ("ck_", "ck_x", f"ck_{'x' * 43}", "x", made["key"] + "x", made["hint"]):
        assert (await with_key(api, wrong, "GET", "/campaigns")).status == 401
    past = {
        "name": "k",
        "kind": "control",
        "scopes": ["campaigns:read"],
        "expiresAt": (now() - DAY).isoformat(),
    }
    assert (await api.call("POST", "/api-keys", past)).status == 422


async def test_another_process_refuses_a_revoked_key_within_seconds(api: ControlApi, tmp_path: Path) -> None:
    made = await make_key(api, "campaigns:read")
    async with running_control_api(api.kafka, api.dsn, tmp_path, path="/health") as other:
        assert (await with_key(other, made["key"], "GET", "/campaigns")).status == 200
        await api.call("DELETE", f"/api-keys/{made['id']}")

        async def refused() -> bool:
            return (await with_key(other, made["key"], "GET", "/campaigns")).status == 401

        assert await eventually(refused, 15)


async def test_a_key_never_may_more_than_who_made_it(api: ControlApi) -> None:
    made = await make_key(api, "keys:manage", "campaigns:read")
    asked = {"name": "k", "kind": "control", "scopes": ["campaigns:read"]}
    child = await with_key(api, made["key"], "POST", "/api-keys", asked)
    assert child.status == 201
    for more in (["campaigns:write"], ["campaigns:read", "users:manage"], ["audit:read"]):
        refused = await with_key(api, made["key"], "POST", "/api-keys", asked | {"scopes": more})
        assert refused.status == 403, more
    for kind in ("server", "publishable"):
        asked_of_door = {"name": "k", "kind": kind}
        assert (await with_key(api, made["key"], "POST", "/api-keys", asked_of_door)).status == 403
    assert (await with_key(api, made["key"], "GET", "/users")).status == 403


async def test_a_key_follows_what_its_maker_may_now(api: ControlApi) -> None:
    user = await make_user(api, "admin")
    token = (await log_in(api, user))["accessToken"]
    asked = {"name": "k", "kind": "control", "scopes": ["campaigns:read", "campaigns:write"]}
    key = (await api.call("POST", "/api-keys", asked, token=token)).body["key"]
    assert (await with_key(api, key, "POST", "/campaigns", body())).status == 201
    path = f"/users/{user['id']}"
    demoted = await api.call("PUT", path, user | {"roles": ["viewer"]}, headers={"If-Match": '"1"'})
    assert demoted.status == 200, demoted
    assert (await with_key(api, key, "GET", "/campaigns")).status == 200
    assert (await with_key(api, key, "POST", "/campaigns", body())).status == 403
    assert (await api.call("DELETE", path)).status == 204
    assert (await with_key(api, key, "GET", "/campaigns")).status == 401


async def test_two_credentials_at_once_are_refused(api: ControlApi) -> None:
    key = (await make_key(api, "campaigns:read"))["key"]
    both = await api.call("GET", "/campaigns", headers={"X-API-Key": key})
    assert (both.status, both.body["type"]) == (400, "/problems/malformed-request")


async def test_what_is_wrong_with_a_control_key_is_named(api: ControlApi) -> None:
    good = {"name": "k", "kind": "control", "scopes": ["campaigns:read"]}
    for wrong, pointer in (
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["events:write"]}, "/scopes/0"),
        ({"scopes": ["campaigns:read", "everything"]}, "/scopes/1"),
        ({"allowedOrigins": ["https://shop.example"]}, "/allowedOrigins"),
        ({"eventsPerSecond": 5}, "/eventsPerSecond"),
        ({"kind": "master"}, "/kind"),
        ({"kind": "server"}, "/scopes/0"),
        ({"name": ""}, "/name"),
    ):
        answer = await api.call("POST", "/api-keys", good | wrong)
        assert answer.status == 422, (wrong, answer)
        assert pointer in [error["pointer"] for error in answer.body["errors"]]


async def test_the_last_use_of_a_key_is_written_in_the_end(api: ControlApi) -> None:
    made = await make_key(api, "campaigns:read")
    assert made["lastUsedAt"] is None
    before = now() - timedelta(seconds=1)
    assert (await with_key(api, made["key"], "GET", "/campaigns")).status == 200

    async def last_used() -> list[str]:
        listed = (await api.call("GET", "/api-keys")).body["items"]
        return [item["lastUsedAt"] for item in listed if item["id"] == made["id"] and item["lastUsedAt"]]

    assert (await eventually(last_used, 60))[0] >= before.isoformat()[:19]
