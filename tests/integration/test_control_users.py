"""Users of an organization: who may make, change and deactivate whom."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from control_api.bootstrap import mint_admin_token
from schemas.ids import new_id
from tests.integration.access import PASSWORD, log_in, make_key, make_user, token_of, with_key
from tests.integration.control import SECRET, ControlApi, now, running_control_api


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(
    kafka: str, postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlApi]:
    folder = Path(tmp_path_factory.mktemp("control_users"))
    async with running_control_api(kafka, postgres_dsn, folder) as running:
        yield running


async def test_a_user_is_made_read_changed_and_deactivated(api: ControlApi) -> None:
    asked = {"email": f"Ann{new_id()}@Shop.example", "name": "Ann", "roles": ["approver", "viewer", "viewer"]}
    made = await api.call("POST", "/users", asked)
    assert made.status == 201, made
    path = f"/users/{made.body['id']}"
    assert made.headers["Location"] == f"/api/v1{path}"
    assert made.body["roles"] == ["viewer", "approver"]
    assert (made.body["active"], made.body["hasPassword"], made.body["version"]) == (True, False, 1)
    assert (await api.call("GET", path)).body == made.body
    changed = await api.call("PUT", path, made.body | {"name": "Ann B"}, headers={"If-Match": '"1"'})
    assert (changed.status, changed.body["name"], changed.headers["ETag"]) == (200, "Ann B", '"2"')
    assert (await api.call("PUT", path, made.body)).status == 428
    assert (await api.call("PUT", path, made.body, headers={"If-Match": '"1"'})).status == 412
    assert (await api.call("DELETE", path, headers={"If-Match": '"1"'})).status == 412
    assert (await api.call("DELETE", path)).status == 204
    assert (await api.call("DELETE", path)).status == 204
    gone = await api.call("GET", path)
    assert (gone.body["active"], gone.body["version"]) == (False, 3)
    again = await api.call("PUT", path, gone.body | {"active": True}, headers={"If-Match": '"3"'})
    assert again.body["active"] is True


async def test_an_email_address_is_in_an_organization_once_whatever_its_case(api: ControlApi) -> None:
    user = await make_user(api, "viewer")
    asked = {"email": user["email"].upper(), "name": "b", "roles": ["viewer"]}
    taken = await api.call("POST", "/users", asked)
    assert (taken.status, taken.body["type"]) == (409, "/problems/email-taken")
    fresh = asked | {"email": f"x{new_id()}@shop.example"}
    both = await asyncio.gather(*(api.call("POST", "/users", fresh) for _ in range(4)))
    assert sorted(answer.status for answer in both) == [201, 409, 409, 409]
    other = await api.other_organization()
    assert (await api.call("POST", "/users", asked, token=other)).status == 201


async def test_what_is_wrong_with_a_user_is_named_and_makes_none(api: ControlApi) -> None:
    before = await api.sql("SELECT count(*) AS n FROM control.users")
    good = {"email": "good@shop.example", "name": "n", "roles": ["viewer"]}
    for wrong in (
        {"email": "nobody"}, {"email": "a@b"}, {"email": "ä@shop.example"}, {"email": "a b@shop.example"},
        {"email": f"{'a' * 300}@shop.example"}, {"name": ""}, {"name": "a\0"}, {"roles": []},
        {"roles": ["owner"]}, {"password": "short"}, {"password": "a" * 16}, {"password": "p" * 300},
        {"password": "good@shop.example"},
    ):  # fmt: skip
        answer = await api.call("POST", "/users", good | wrong)
        assert answer.status == 422, (wrong, answer)
        assert answer.body["errors"][0]["pointer"].startswith(f"/{next(iter(wrong))}")
    assert (await api.call("POST", "/users", good | {"admin": True})).status == 400
    assert await api.sql("SELECT count(*) AS n FROM control.users") == before


async def test_users_are_listed_page_by_page(api: ControlApi) -> None:
    made = [(await make_user(api, "viewer", password=None))["id"] for _ in range(5)]
    seen: list[str] = []
    path = "/users?limit=2"
    while path:
        page = await api.call("GET", path)
        assert page.status == 200, page
        seen += [item["id"] for item in page.body["items"]]
        link = page.headers.get("Link", "")
        path = link.removeprefix("</api/v1").partition(">")[0] if link else ""
    assert len(seen) == len(set(seen))
    assert [identity for identity in seen if identity in made] == made
    assert (await api.call("GET", "/users?cursor=x")).status == 400
    assert "password" not in str((await api.call("GET", "/users?limit=1000")).body).replace("hasPassword", "")


async def test_there_is_always_an_active_admin_left_however_many_leave_at_once(api: ControlApi) -> None:
    token = await api.other_organization()
    me = (await api.call("GET", "/auth/me", token=token)).body
    path = f"/users/{me['id']}"
    for change in ({"roles": ["editor"]}, {"active": False}):
        asked = {"name": "a", "roles": ["admin"]} | change
        refused = await api.call("PUT", path, asked, token=token, headers={"If-Match": '"1"'})
        assert (refused.status, refused.body["type"]) == (409, "/problems/last-admin")
    assert (await api.call("DELETE", path, token=token)).status == 409
    others = []
    for _ in range(3):
        asked = {"email": f"a{new_id()}@shop.example", "name": "a", "roles": ["admin"]}
        others.append((await api.call("POST", "/users", asked, token=token)).body["id"])
    paths = [path, *(f"/users/{identity}" for identity in others)]
    answers = await asyncio.gather(*(api.call("DELETE", each, token=token) for each in paths))
    left = await api.sql(
        "SELECT id FROM control.users WHERE organization_id = $1::uuid AND deactivated_at IS NULL",
        me["organizationId"],
    )
    assert len(left) == 1, answers


async def test_nobody_gives_or_changes_more_than_he_may(api: ControlApi) -> None:
    admin, viewer = await make_user(api, "admin"), await make_user(api, "viewer")
    key = (await make_key(api, "users:manage", "campaigns:read", "organization:read"))["key"]
    asked = {"email": f"k{new_id()}@shop.example", "name": "k"}
    for roles in (["admin"], ["editor"], ["viewer", "approver"]):
        assert (await with_key(api, key, "POST", "/users", asked | {"roles": roles})).status == 403, roles
    assert (await with_key(api, key, "POST", "/users", asked | {"roles": ["viewer"]})).status == 201
    assert (await with_key(api, key, "DELETE", f"/users/{admin['id']}")).status == 403
    headers = {"X-API-Key": key, "If-Match": '"1"'}
    takeover = {"name": "x", "roles": ["viewer"], "password": "a password of mine"}
    assert (await api.bare("PUT", f"/users/{admin['id']}", takeover, headers=headers)).status == 403
    lifted = {"name": "x", "roles": ["admin"]}
    assert (await api.bare("PUT", f"/users/{viewer['id']}", lifted, headers=headers)).status == 403
    assert (await with_key(api, key, "DELETE", f"/users/{viewer['id']}")).status == 204


async def test_a_changed_user_is_logged_out_and_a_deactivated_one_may_nothing(api: ControlApi) -> None:
    user = await make_user(api, "editor")
    session, bare = await log_in(api, user), await token_of(api, "viewer")
    assert (await api.call("GET", "/auth/me", token=session["accessToken"])).status == 200
    path = f"/users/{user['id']}"
    renamed = await api.call("PUT", path, user | {"name": "Bea"}, headers={"If-Match": '"1"'})
    assert (await api.call("GET", "/auth/me", token=session["accessToken"])).status == 200
    demoted = renamed.body | {"roles": ["viewer"]}
    assert (await api.call("PUT", path, demoted, headers={"If-Match": '"2"'})).status == 200
    assert (await api.call("GET", "/campaigns", token=session["accessToken"])).status == 401
    refreshed = await api.bare("POST", "/auth/refresh", {"refreshToken": session["refreshToken"]})
    assert refreshed.status == 401
    session = await log_in(api, user)
    assert (await api.call("DELETE", path)).status == 204
    assert (await api.call("GET", "/campaigns", token=session["accessToken"])).status == 401
    refused = await api.bare("POST", "/auth/login", {"email": user["email"], "password": PASSWORD})
    assert refused.status == 401
    me = (await api.call("GET", "/auth/me", token=bare)).body
    assert (await api.call("DELETE", f"/users/{me['id']}")).status == 204
    assert (await api.call("GET", "/auth/me", token=bare)).status == 401
    stranger = mint_admin_token(SECRET, api.made.organization_id, new_id(), now=now())
    assert (await api.call("GET", "/auth/me", token=stranger)).status == 401
