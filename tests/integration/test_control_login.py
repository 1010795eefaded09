"""Logins, sessions and their refresh tokens."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from schemas.ids import new_id
from tests.integration.access import PASSWORD, log_in, make_key, make_user, with_key
from tests.integration.control import Answer, ControlApi, eventually, running_control_api

WRONG = "a wrong password"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(
    kafka: str, postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlApi]:
    folder = Path(tmp_path_factory.mktemp("control_login"))
    many = {"FLIGHTLINE_LOGIN_PER_ADDRESS": "100000", "FLIGHTLINE_TRUSTED_PROXIES": "127.0.0.0/8"}
    async with running_control_api(kafka, postgres_dsn, folder, **many) as running:
        yield running


async def attempt(api: ControlApi, email: str, password: str = WRONG, **headers: str) -> Answer:
    return await api.bare("POST", "/auth/login", {"email": email, "password": password}, headers=headers)


async def refresh(api: ControlApi, token: str, **headers: str) -> Answer:
    return await api.bare("POST", "/auth/refresh", {"refreshToken": token}, headers=headers)


async def age(api: ControlApi, seconds: int) -> None:
    """As if all that was used had been used so much earlier."""
    await api.sql("UPDATE control.refresh_tokens SET used_at = used_at - make_interval(secs => $1)", seconds)


async def test_a_login_gives_tokens_that_work_and_are_not_kept(api: ControlApi) -> None:
    user = await make_user(api, "editor")
    answer = await attempt(api, user["email"].upper(), PASSWORD)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert (answer.body["tokenType"], answer.body["expiresIn"]) == ("Bearer", 600)
    me = await api.call("GET", "/auth/me", token=answer.body["accessToken"])
    assert (me.body["id"], me.body["roles"], me.body["email"]) == (user["id"], ["editor"], user["email"])
    named = {"email": user["email"], "password": PASSWORD, "organization": api.made.organization_id}
    assert (await api.bare("POST", "/auth/login", named)).status == 200
    for elsewhere in (new_id(), "x"):
        assert (await api.bare("POST", "/auth/login", named | {"organization": elsewhere})).status == 401
    kept = await api.sql("SELECT u.password_hash, u::text, t::text AS token FROM control.users u, "
                         "control.sessions s, control.refresh_tokens t WHERE u.id = $1::uuid AND "
                         "s.user_id = u.id AND t.session_id = s.id", user["id"])  # fmt: skip
    assert kept[0]["password_hash"].startswith("$argon2id$v=19$m=47104,t=1,p=1$")
    for row in kept:
        assert answer.body["refreshToken"] not in row["token"]
    assert PASSWORD not in api.log
    assert answer.body["accessToken"] not in api.log


async def test_an_email_of_two_organizations_needs_the_organizations_name(api: ControlApi) -> None:
    user = await make_user(api, "viewer")
    other = await api.other_organization()
    twin = {"email": user["email"], "name": "t", "roles": ["viewer"], "password": "another long password"}
    assert (await api.call("POST", "/users", twin, token=other)).status == 201
    assert (await attempt(api, user["email"], PASSWORD)).status == 401
    named = {"email": user["email"], "password": PASSWORD, "organization": api.made.organization_id}
    assert (await api.bare("POST", "/auth/login", named)).status == 200


async def test_a_refusal_is_the_same_whatever_was_wrong(api: ControlApi) -> None:
    user, without = await make_user(api, "viewer"), await make_user(api, "viewer", password=None)
    gone = await make_user(api, "viewer")
    await api.call("DELETE", f"/users/{gone['id']}")
    seen: list[dict[str, Any]] = []
    for email, password in (
        (user["email"], "a wrong password"),
        (f"nobody{new_id()}@shop.example", PASSWORD),
        (without["email"], PASSWORD),
        (gone["email"], PASSWORD),
    ):
        answer = await attempt(api, email, password)
        assert answer.status == 401
        seen.append({name: value for name, value in answer.body.items() if name != "requestId"})
    assert all(one == seen[0] for one in seen)


async def test_a_refusal_takes_as_long_for_an_unknown_email(api: ControlApi) -> None:
    """Not a measurement: that neither is answered before the other could be."""
    user = await make_user(api, "viewer")
    took: dict[str, list[float]] = {user["email"]: [], f"nobody{new_id()}@shop.example": []}
    for _ in range(3):
        for email, times in took.items():
            began = perf_counter()
            assert (await attempt(api, email)).status == 401
            times.append(perf_counter() - began)
    assert all(median(times) >= 0.25 for times in took.values()), took


async def test_an_account_is_guarded_over_replicas_and_restarts(api: ControlApi) -> None:
    user = await make_user(api, "viewer")
    here = {"X-Forwarded-For": "198.51.100.7"}
    # More than all addresses together may: what is refused does not count for the others.
    answers = await asyncio.gather(*(attempt(api, user["email"], **here) for _ in range(60)))
    statuses = sorted(answer.status for answer in answers)
    assert statuses == [401] * 10 + [429] * 50
    assert api.stop() == 0
    await api.start()
    refused = await attempt(api, user["email"], PASSWORD, **here)
    assert (refused.status, refused.body["type"]) == (429, "/problems/too-many-requests")
    assert 0 < int(refused.headers["Retry-After"]) <= 900
    assert (await attempt(api, user["email"], PASSWORD, **{"X-Forwarded-For": "203.0.113.9"})).status == 200
    unknown = f"nobody{new_id()}@shop.example"
    answers = await asyncio.gather(*(attempt(api, unknown, **here) for _ in range(14)))
    assert sorted(answer.status for answer in answers) == [401] * 10 + [429] * 4
    await api.sql("UPDATE control.login_attempts SET window_ends = now() - interval '1 second'")
    assert (await attempt(api, user["email"], PASSWORD, **here)).status == 200


async def test_who_knows_his_password_is_never_throttled(api: ControlApi) -> None:
    user = await make_user(api, "viewer")
    for _ in range(12):
        assert (await attempt(api, user["email"], PASSWORD)).status == 200


async def test_a_refresh_token_is_used_once_and_its_thief_ends_the_session(api: ControlApi) -> None:
    user = await make_user(api, "viewer")
    first = await log_in(api, user)
    second = (await refresh(api, first["refreshToken"])).body
    assert second["refreshToken"] != first["refreshToken"]
    third = (await refresh(api, second["refreshToken"])).body
    assert (await api.call("GET", "/auth/me", token=third["accessToken"])).status == 200
    assert (await refresh(api, first["refreshToken"])).status == 401
    assert (await refresh(api, third["refreshToken"])).status == 401

    async def ended() -> bool:
        return (await api.call("GET", "/auth/me", token=third["accessToken"])).status == 401

    assert await eventually(ended, 10)
    stolen = (await api.call("GET", f"/audit?action=session.stolen&subject={user['id']}")).body["items"]
    assert len(stolen) == 1
    assert (await refresh(api, "nonsense")).status == 401


async def test_a_refresh_whose_answer_was_lost_is_answered_again(api: ControlApi) -> None:
    first = await log_in(api, await make_user(api, "viewer"))
    lost = (await refresh(api, first["refreshToken"])).body
    at_once = await refresh(api, first["refreshToken"])
    assert at_once.body["refreshToken"] == lost["refreshToken"]
    await age(api, 60)
    later = await refresh(api, first["refreshToken"])
    assert later.status == 200
    assert later.body["refreshToken"] != lost["refreshToken"]
    again = (await refresh(api, later.body["refreshToken"])).body
    assert (await refresh(api, again["refreshToken"])).status == 200


async def test_of_a_lost_answer_and_its_thief_only_one_goes_on(api: ControlApi) -> None:
    first = await log_in(api, await make_user(api, "viewer"))
    stolen = (await refresh(api, first["refreshToken"])).body
    await age(api, 60)
    mine = (await refresh(api, first["refreshToken"])).body
    assert (await refresh(api, stolen["refreshToken"])).status == 401
    assert (await refresh(api, mine["refreshToken"])).status == 401


async def test_two_windows_that_refresh_at_once_both_stay_logged_in(api: ControlApi) -> None:
    first = await log_in(api, await make_user(api, "viewer"))
    answers = await asyncio.gather(*(refresh(api, first["refreshToken"]) for _ in range(8)))
    assert {answer.status for answer in answers} == {200}
    tokens = {answer.body["refreshToken"] for answer in answers}
    assert len(tokens) == 1
    assert (await refresh(api, tokens.pop())).status == 200


async def test_an_idempotency_key_repeats_logins_and_refreshes(api: ControlApi) -> None:
    user = await make_user(api, "viewer")
    key = {"Idempotency-Key": new_id()}
    one = await attempt(api, user["email"], PASSWORD, **key)
    two = await attempt(api, user["email"], PASSWORD, **key)
    assert two.headers["Idempotent-Replayed"] == "true"
    assert one.body == two.body
    key = {"Idempotency-Key": new_id()}
    new = (await refresh(api, one.body["refreshToken"], **key)).body
    await age(api, 7200)
    assert (await refresh(api, one.body["refreshToken"], **key)).body == new


async def test_a_logout_ends_this_session_or_all(api: ControlApi) -> None:
    user = await make_user(api, "viewer")
    one, two, three = [await log_in(api, user) for _ in range(3)]
    assert (await api.call("POST", "/auth/logout", token=one["accessToken"])).status == 204
    assert (await api.call("GET", "/auth/me", token=one["accessToken"])).status == 401
    assert (await refresh(api, one["refreshToken"])).status == 401
    assert (await api.call("GET", "/auth/me", token=two["accessToken"])).status == 200
    assert (await api.call("POST", "/auth/logout", {"all": True}, token=two["accessToken"])).status == 204
    for session in (two, three):
        assert (await api.call("GET", "/auth/me", token=session["accessToken"])).status == 401
        assert (await refresh(api, session["refreshToken"])).status == 401
    key = (await make_key(api, "campaigns:read"))["key"]
    assert (await with_key(api, key, "POST", "/auth/logout", {"all": True})).status == 204
    assert (await api.call("GET", "/auth/me")).status == 200


async def test_a_session_ends_at_its_time_however_often_it_is_refreshed(api: ControlApi) -> None:
    user = await make_user(api, "viewer")
    session = await log_in(api, user)
    await api.sql(
        "UPDATE control.sessions SET expires_at = now() - interval '1 second' WHERE user_id = $1::uuid",
        user["id"],
    )
    assert (await refresh(api, session["refreshToken"])).status == 401


async def test_a_new_password_needs_the_old_one_and_ends_other_sessions(api: ControlApi) -> None:
    user = await make_user(api, "viewer")
    mine, other = await log_in(api, user), await log_in(api, user)
    token, new = mine["accessToken"], "quite another password"

    async def change(current: str, new: str) -> Answer:
        asked = {"currentPassword": current, "newPassword": new}
        return await api.call("POST", "/auth/password", asked, token=token)

    wrong = await change("not the password", new)
    assert (wrong.status, wrong.body["errors"][0]["pointer"]) == (422, "/currentPassword")
    weak = await change(PASSWORD, "short")
    assert (weak.status, weak.body["errors"][0]["pointer"]) == (422, "/newPassword")
    assert (await change(PASSWORD, new)).status == 204
    assert (await api.call("GET", "/auth/me", token=token)).status == 200
    assert (await refresh(api, other["refreshToken"])).status == 401
    assert (await attempt(api, user["email"], PASSWORD)).status == 401
    assert (await attempt(api, user["email"], new)).status == 200
    guessed = [await change(f"not the password {n}", new) for n in range(12)]
    assert guessed[-1].status == 429
    assert (
        await api.call("POST", "/auth/password", {"currentPassword": "x", "newPassword": new})
    ).status == 403


async def test_passwords_are_the_same_from_every_keyboard(api: ControlApi) -> None:
    composed, decomposed = "p\u00e4sswort f\u00fcr alle", "pa\u0308sswort fu\u0308r alle"
    user = await make_user(api, "viewer", password=composed)
    assert (await attempt(api, user["email"], decomposed)).status == 200


async def test_logins_are_in_the_audit_log_without_an_address_in_clear(api: ControlApi) -> None:
    user = await make_user(api, "viewer")
    where = {"X-Forwarded-For": "198.51.100.99", "X-Request-ID": f"login-{new_id()}"}
    await attempt(api, user["email"], **where)
    session = (await attempt(api, user["email"], PASSWORD, **where)).body
    await api.call("POST", "/auth/logout", token=session["accessToken"])
    items = (await api.call("GET", f"/audit?subject={user['id']}")).body["items"]
    told = [(item["action"], item["actor"]) for item in items]
    assert told == [
        ("logout", user["id"]),
        ("login", user["id"]),
        ("login.failed", "anonymous"),
        ("user.created", api.made.admin_id),
    ]
    assert items[1]["correlationId"] == where["X-Request-ID"]
    assert items[1]["address"] == items[2]["address"] != items[0]["address"]
    assert len(items[1]["address"]) == 16
    tables = await api.sql(
        "SELECT a::text FROM control.audit a UNION ALL SELECT s::text FROM control.sessions s"
    )
    assert not [row for row in tables if "198.51.100" in row[0] or "127.0.0.1" in row[0]]
    requests = [line for line in api.log.splitlines() if '"event": "request"' in line]
    assert requests
    assert not [line for line in requests if "198.51.100" in line or "127.0.0.1" in line]
    assert msgspec.json.decode(requests[-1])["path"].startswith("/")
