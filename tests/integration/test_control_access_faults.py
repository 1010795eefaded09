"""Logins, sessions and keys while things break, and what their queries cost when there is much."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
import pytest_asyncio

from schemas.ids import new_id
from sql.load import postgres_queries
from tests.integration.access import PASSWORD, log_in, make_key, make_user, with_key
from tests.integration.control import ControlApi, eventually, now, running_control_api

_KILLS = 4
_SHORT = aiohttp.ClientTimeout(5)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(
    kafka: str, postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlApi]:
    folder = Path(tmp_path_factory.mktemp("control_access_faults"))
    # A machine that does other things as well may need long to send a body.
    async with running_control_api(kafka, postgres_dsn, folder, FLIGHTLINE_BODY_MS="60000") as running:
        yield running


async def refreshing(api: ControlApi, token: str, stop: asyncio.Event) -> int:
    """A console that refreshes all the time, and tries again with the same token where no answer came."""
    refreshed = 0
    while not stop.is_set():
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            answer = await api.bare("POST", "/auth/refresh", {"refreshToken": token}, timeout=_SHORT)
            if answer.status == 503:
                continue
            assert answer.status == 200, (refreshed, answer)
            token, refreshed = answer.body["refreshToken"], refreshed + 1
        await asyncio.sleep(0.01)
    return refreshed


@pytest.mark.timeout(300)
async def test_kills_at_any_moment_log_nobody_out(api: ControlApi) -> None:
    users = [await make_user(api, "viewer") for _ in range(4)]
    tokens = [(await log_in(api, user))["refreshToken"] for user in users]
    stop = asyncio.Event()
    consoles = [asyncio.create_task(refreshing(api, token, stop)) for token in tokens]
    try:
        for kill in range(_KILLS):
            await asyncio.sleep(0.3 + kill * 0.13)
            api.kill()
            await api.start()
    finally:
        stop.set()
        counts = await asyncio.gather(*consoles)
    assert all(count > _KILLS for count in counts), counts
    assert (await api.call("GET", "/audit?action=session.stolen")).body["items"] == []


async def test_without_postgres_nobody_is_taken_for_a_stranger(api: ControlApi) -> None:
    user = await make_user(api, "viewer")
    session, key = await log_in(api, user), (await make_key(api, "campaigns:read"))["key"]
    database = api.dsn.rpartition("/")[2]
    server = await asyncpg.connect(api.dsn.rpartition("/")[0] + "/postgres")
    try:
        await server.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')
        await server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database
        )

        async def refused() -> bool:
            answer = await api.call("GET", "/auth/me", token=session["accessToken"])
            assert answer.status in (200, 503), answer
            return answer.status == 503

        assert await eventually(refused, 15)
        login = {"email": user["email"], "password": PASSWORD}
        assert (await api.bare("POST", "/auth/login", login)).status == 503
        asked = {"refreshToken": session["refreshToken"]}
        assert (await api.bare("POST", "/auth/refresh", asked)).status == 503
        assert (await with_key(api, key, "GET", "/campaigns")).status == 503
        assert (await api.call("GET", "/audit/export")).status == 503
    finally:
        await server.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS true')
        await server.close()

    async def works() -> bool:
        return (await with_key(api, key, "GET", "/campaigns")).status == 200

    assert await eventually(works, 30)
    assert (await api.bare("POST", "/auth/refresh", asked)).status == 200
    assert (await api.bare("POST", "/auth/login", login)).status == 200


async def test_users_are_changed_and_refreshed_at_once_without_a_deadlock(api: ControlApi) -> None:
    user = await make_user(api, "viewer")
    stop = asyncio.Event()

    async def log_in_again_and_again() -> None:
        while not stop.is_set():
            with contextlib.suppress(AssertionError):  # the account may be changed in between
                token = (await log_in(api, user))["refreshToken"]
                for _ in range(3):
                    answer = await api.bare("POST", "/auth/refresh", {"refreshToken": token})
                    if answer.status != 200:
                        break
                    token = answer.body["refreshToken"]

    consoles = [asyncio.create_task(log_in_again_and_again()) for _ in range(4)]
    try:
        for number in range(20):
            found = await api.call("GET", f"/users/{user['id']}")
            roles = ["viewer", "editor"][: 1 + number % 2]
            asked, headers = {"name": "n", "roles": roles}, {"If-Match": found.headers["ETag"]}
            assert (await api.call("PUT", f"/users/{user['id']}", asked, headers=headers)).status == 200
    finally:
        stop.set()
        await asyncio.gather(*consoles)
    assert "postgres.rolled_back" not in api.log
    assert "request.failed" not in api.log


async def test_a_table_that_is_locked_for_long_is_no_mistake_of_ours(api: ControlApi) -> None:
    """As a migration does. Whoever only reads is told to come back too."""
    user = await make_user(api, "viewer")
    session = await log_in(api, user)
    connection = await asyncpg.connect(api.dsn)

    async def is_told_to_wait() -> bool:
        answer = await api.call("GET", "/auth/me", token=session["accessToken"])
        assert answer.status in (200, 503), answer
        return answer.status == 503 and answer.headers["Retry-After"] == "1"

    async def works() -> bool:
        return (await api.call("GET", "/auth/me", token=session["accessToken"])).status == 200

    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE control.users")
            assert await eventually(is_told_to_wait, 30)
    finally:
        await connection.close()
    assert await eventually(works, 10)
    assert "request.failed" not in api.log


ORGANIZATION, OTHER = new_id(), new_id()
_FILL = """
WITH made AS (
    INSERT INTO control.organizations (id, name) SELECT unnest($1::uuid[]), 'o' RETURNING id
), users AS (
    INSERT INTO control.users (id, organization_id, email, roles)
    SELECT gen_random_uuid(), id, 'u' || n || '@' || id || '.example', '{viewer}'
    FROM made, generate_series(1, 20000) AS n
), keys AS (
    INSERT INTO control.control_keys
        (id, organization_id, name, key_hash, hint, scopes, created_by, created_at)
    SELECT gen_random_uuid(), id, 'k', id || 'h' || n, 'ck_', '{campaigns:read}', gen_random_uuid(), now()
    FROM made, generate_series(1, 2000) AS n
)
INSERT INTO control.audit
SELECT id, n, now() - make_interval(hours => 50000 - n),
    CASE n WHEN 77 THEN 'rare' ELSE 'actor' || n % 20 END,
    CASE n WHEN 99 THEN 'rare' ELSE 'action' || n % 15 END, 'campaign',
    CASE n WHEN 55 THEN 'rare' ELSE 's' || n % 5000 END, NULL, NULL, NULL, NULL, NULL, ''
FROM made, generate_series(1, 50000) AS n
"""
_AUDIT: dict[str, Any] = dict.fromkeys(("actor", "actions", "subject", "since", "until"))
_LONG_AGO, _LATER = now() - timedelta(days=1500), now() - timedelta(days=1499)
_pages, _access = postgres_queries("control_audit_pages"), postgres_queries("control_access")
_users = postgres_queries("control_users")


def newest(**filters: Any) -> Callable[[asyncpg.Connection], Any]:
    return lambda connection: _pages.newest(
        connection, **(_AUDIT | filters), organization_id=ORGANIZATION, before_seq=None, most=51
    )


def oldest(**filters: Any) -> Callable[[asyncpg.Connection], Any]:
    return lambda connection: _pages.oldest(
        connection, **(_AUDIT | filters), organization_id=ORGANIZATION, after_seq=0, up_to=50_000, most=51
    )


async def standing(connection: asyncpg.Connection) -> AsyncIterator[Any]:
    yield await _access.standing(
        connection, organization_id=ORGANIZATION, user_id=new_id(), session_id=None, now=now()
    )


async def key(connection: asyncpg.Connection) -> AsyncIterator[Any]:
    yield await _access.control_key_of_hash(connection, key_hash=f"{ORGANIZATION}h7")


QUERIES: dict[str, Callable[[asyncpg.Connection], Any]] = {
    "audit": newest(),
    "audit by actor": newest(actor="rare"),
    "audit by action": newest(actions=["rare", "none"]),
    "audit by subject": newest(subject="rare"),
    "audit long ago": newest(until=_LONG_AGO),
    "audit of a day": newest(since=_LONG_AGO, until=_LATER),
    "export of a day": oldest(since=_LONG_AGO, until=_LATER),
    "export by action": oldest(actions=["rare"]),
    "users": lambda connection: _users.list_users(
        connection, organization_id=ORGANIZATION, after=None, most=51
    ),
    "login": lambda connection: _users.users_of_email(
        connection, email=f"U7@{ORGANIZATION}.example", organization_id=None
    ),
    "who somebody is": standing,
    "whose key it is": key,
}


async def rows_read(
    connection: asyncpg.Connection, ask: Callable[[asyncpg.Connection], AsyncIterator[Any]]
) -> tuple[int, int]:
    """How many rows a query returns, and how many of the tables it has looked at."""

    async def looked_at() -> int:
        # What Postgres counts for this session and has not handed on: in one transaction, that only grows.
        return int(
            await connection.fetchval(
                "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables "
                "WHERE schemaname = 'control' AND relname <> 'organizations'"
            )
        )

    async with connection.transaction():
        before = await looked_at()
        returned = [row async for row in ask(connection)]
        return len(returned), await looked_at() - before


async def test_no_query_looks_at_more_than_its_page_however_much_there_is(api: ControlApi) -> None:
    connection = await asyncpg.connect(api.dsn)
    try:
        await connection.execute(_FILL.replace("$1", f"ARRAY['{ORGANIZATION}', '{OTHER}']"))
        await connection.execute("ANALYZE control.audit, control.users, control.control_keys")
        for name, ask in QUERIES.items():
            for _ in range(8):  # also with the plan that Postgres makes for all parameters
                returned, looked_at = await rows_read(connection, ask)
                assert 0 < returned <= looked_at + 1, (name, returned, looked_at)
                assert looked_at <= 2 * returned + 60, (name, returned, looked_at)
    finally:
        await connection.close()
