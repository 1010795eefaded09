"""Every route of the API, against the table of permissions and against other organizations.

A new route needs a line in OF_ROUTE. If it has a new kind of id in its path, that needs a line in MAKERS; if
it reads a body before it looks for what the id names, a line in BODIES.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest
import pytest_asyncio
from litestar.routes import HTTPRoute

from control_api.app import api as api_router
from control_api.domain.control_keys import KeyScope
from control_api.domain.permissions import OF_ROLE, OF_ROUTE, Anyone, Permission, Role
from schemas.ids import new_id
from schemas.reasons import Scope
from tests.integration.access import make_key, token_of
from tests.integration.control import Answer, ControlApi, body, running_control_api
from tests.integration.door import running_door

PREFIX = "/api/v1"
Route = tuple[str, str]


def routes() -> list[Route]:
    """Method and path template of each route that there is."""
    found = [
        (method, route.path_format)
        for route in api_router().routes
        if isinstance(route, HTTPRoute)
        for method in route.methods
    ]
    return sorted(route for route in found if route[0] != "OPTIONS")


Ids = dict[str, str]
"""The ids of a path that are known already: a maker may need what stands before its own."""


async def a_campaign(api: ControlApi, _: Ids) -> Answer:
    return await api.call("POST", "/campaigns", body())


async def an_approval(api: ControlApi, ids: Ids) -> Answer:
    return await api.call("POST", f"/campaigns/{ids['campaign_id']}/approvals", {})


async def a_job(api: ControlApi, _: Ids) -> Answer:
    row = msgspec.json.encode(body())
    answer = await api.call("POST", "/campaigns/import?format=ndjson", data=row)
    return answer._replace(body={"id": answer.body["jobId"]})


async def a_key(api: ControlApi, _: Ids) -> Answer:
    return await api.call("POST", "/api-keys", {"name": "k", "kind": "server"})


async def a_control_key(api: ControlApi, _: Ids) -> Answer:
    return await api.call("POST", "/api-keys", {"name": "k", "kind": "control", "scopes": ["audit:read"]})


async def a_user(api: ControlApi, _: Ids) -> Answer:
    asked = {"email": f"u{new_id()}@shop.example", "name": "u", "roles": ["viewer"]}
    return await api.call("POST", "/users", asked)


async def a_webhook(api: ControlApi, _: Ids) -> Answer:
    return await api.call("POST", "/webhooks", {"url": "http://127.0.0.1:9/hook"})


async def a_delivery(api: ControlApi, ids: Ids) -> Answer:
    return await api.call("POST", f"/webhooks/{ids['webhook_id']}/test")


MAKERS: dict[str, tuple[Callable[[ControlApi, Ids], Awaitable[Answer]], ...]] = {
    "campaign_id": (a_campaign,),
    "approval_id": (an_approval,),
    "job_id": (a_job,),
    "key_id": (a_key, a_control_key),
    "user_id": (a_user,),
    "webhook_id": (a_webhook,),
    "delivery_id": (a_delivery,),
}
"""What makes the thing that an id in a path names, in the organization of the first admin."""

BODIES: dict[Route, Any] = {
    ("PUT", "/api/v1/users/{user_id}"): {"name": "n", "roles": ["viewer"]},
    ("PUT", "/api/v1/webhooks/{webhook_id}"): {"url": "http://127.0.0.1:9/hook"},
    ("POST", "/api/v1/campaigns/{campaign_id}/stop"): {"justification": "over"},
    ("POST", "/api/v1/campaigns/{campaign_id}/track"): {"type": "CLICK"},
    ("POST", "/api/v1/campaigns/{campaign_id}/approvals/{approval_id}/reject"): {"comment": "no"},
}
"""Bodies that can be read, where an empty object cannot."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(
    kafka: str, postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlApi]:
    folder = Path(tmp_path_factory.mktemp("control_permissions"))
    async with (
        running_door(kafka, folder) as door,
        running_control_api(
            kafka, postgres_dsn, folder, FLIGHTLINE_WEBHOOKS_PRIVATE="1", FLIGHTLINE_INGEST_URL=door.url
        ) as running,
    ):
        found = await running.call("GET", "/organization")
        asked = found.body | {"limits": {"EUR": {"approvalThreshold": 1000}}}
        limited = await running.call(
            "PUT", "/organization", asked, headers={"If-Match": found.headers["ETag"]}
        )
        assert limited.status == 200, limited
        yield running


def test_the_table_has_every_route_and_no_other() -> None:
    assert len(routes()) > 20
    assert set(routes()) == set(OF_ROUTE)


def test_scopes_of_keys_are_the_permissions_and_those_of_the_door() -> None:
    assert {scope.value for scope in KeyScope} == {each.value for each in (*Permission, *Scope)}


def parameters(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def filled(path: str, ids: dict[str, str]) -> str:
    for name, value in ids.items():
        path = path.replace(f"{{{name}}}", value)
    return path.removeprefix(PREFIX)


class Told(NamedTuple):
    """An answer's beginning; the body only when it is a problem: some never end."""

    status: int
    headers: Mapping[str, str]
    problem: Any


async def ask(api: ControlApi, route: Route, path: str, **credentials: str) -> Told:
    """A request that is good enough to be allowed or not, and changes nothing where the ids name nothing."""
    method, template = route
    sent = BODIES.get(route, {}) if method in ("POST", "PUT") else None
    headers = {"If-Match": '"1"'} if parameters(template) else {}
    url = f"{api.url}{PREFIX}{path}"
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, url, json=sent, headers=headers | credentials) as answer,
    ):
        problem = msgspec.json.decode(await answer.read()) if answer.status >= 400 else None
        return Told(answer.status, answer.headers, problem)


def of_token(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("role", Role)
async def test_a_role_may_exactly_what_the_table_says(api: ControlApi, role: Role) -> None:
    token = of_token(await token_of(api, role))
    for route in routes():
        path = filled(route[1], {name: new_id() for name in parameters(route[1])})
        answer = await ask(api, route, path, **token)
        needed = OF_ROUTE[route]
        allowed = isinstance(needed, Anyone) or needed in OF_ROLE[role]
        assert (answer.status == 403) == (not allowed), (role, route, answer)
        assert answer.status < 500


@pytest.mark.parametrize("scope", Permission)
async def test_a_key_may_exactly_what_its_scope_says(api: ControlApi, scope: Permission) -> None:
    key = {"X-API-Key": (await make_key(api, scope))["key"]}
    for route in routes():
        path = filled(route[1], {name: new_id() for name in parameters(route[1])})
        answer = await ask(api, route, path, **key)
        needed = OF_ROUTE[route]
        allowed = isinstance(needed, Anyone) or needed is scope
        assert (answer.status == 403) == (not allowed), (scope, route, answer)


async def test_roles_that_nobody_knows_may_nothing(api: ControlApi) -> None:
    token = of_token(await token_of(api, "viewer"))
    await api.sql("UPDATE control.users SET roles = '{}' WHERE NOT 'admin' = ANY (roles)")
    for route in routes():
        answer = await ask(api, route, filled(route[1], {n: new_id() for n in parameters(route[1])}), **token)
        assert answer.status in ((401,) if OF_ROUTE[route] is not Anyone.AT_ALL else (401, 422)), (
            route,
            answer,
        )


async def test_without_a_token_nothing_but_login_is_answered(api: ControlApi) -> None:
    for route in routes():
        answer = await ask(api, route, filled(route[1], {n: new_id() for n in parameters(route[1])}))
        if OF_ROUTE[route] is Anyone.AT_ALL:
            assert answer.status == 422, (route, answer)
        else:
            assert answer.status == 401, (route, answer)
            assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("route", [route for route in routes() if parameters(route[1])], ids=" ".join)
async def test_an_id_of_another_organization_names_nothing(api: ControlApi, route: Route) -> None:
    stranger = of_token(await api.other_organization())
    owner = of_token(api.made.admin_token)
    *before, last = parameters(route[1])
    for make in MAKERS[last]:
        ids: Ids = {}
        for name in before:
            ids[name] = (await MAKERS[name][0](api, ids)).body["id"]
        made = await make(api, ids)
        assert made.status in (201, 202), made
        path = filled(route[1], ids | {last: made.body["id"]})
        answer = await ask(api, route, path, **stranger)
        assert (answer.status, answer.problem["type"]) == (404, "/problems/not-found"), answer
        own = await ask(api, route, path, **owner)
        assert own.status != 404, own
