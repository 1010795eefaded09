"""Users, sessions and keys as their consoles handle them, for tests of who may what."""

from typing import Any

from control_api.auth.tokens import Claims, Tokens
from schemas.ids import new_id
from tests.integration.control import DAY, SECRET, Answer, ControlApi, now

PASSWORD = "correct horse battery"


async def make_user(api: ControlApi, *roles: str, **changes: Any) -> dict[str, Any]:
    """A new user of the admin's organization; with a password."""
    asked = {"email": f"u{new_id()}@shop.example", "name": "Ann", "roles": list(roles), "password": PASSWORD}
    made = await api.call("POST", "/users", asked | changes)
    assert made.status == 201, made
    return dict(made.body)


async def log_in(api: ControlApi, user: dict[str, Any], password: str = PASSWORD) -> dict[str, Any]:
    """The tokens of a new session."""
    answer = await api.bare("POST", "/auth/login", {"email": user["email"], "password": password})
    assert answer.status == 200, answer
    return dict(answer.body)


async def token_of(api: ControlApi, *roles: str) -> str:
    """A token of a new user with these roles, from no session."""
    user = await make_user(api, *roles)
    claims = Claims(user["id"], api.made.organization_id, tuple(user["roles"]))
    return Tokens(SECRET).mint(claims, now=now(), lifetime=DAY)


async def make_key(api: ControlApi, *scopes: str, **changes: Any) -> dict[str, Any]:
    """A new control key with its text in `key`."""
    made = await api.call("POST", "/api-keys", {"name": "k", "kind": "control", "scopes": scopes} | changes)
    assert made.status == 201, made
    return dict(made.body)


async def with_key(api: ControlApi, key: str, method: str, path: str, json: Any = None) -> Answer:
    """A request with X-API-Key in place of a token."""
    return await api.bare(method, path, json, headers={"X-API-Key": key})
