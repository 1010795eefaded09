"""What the control API is measured with: campaigns of many organizations, events, a door, an aggregator."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import clickhouse_connect

from compose.topics import ensure_topics
from control_api.bootstrap import mint_admin_token
from schemas.ids import new_id
from tests.bench.engines import Engines, Service, aggregator, metric, until
from tests.bench.stored_events import DAYS, fill, prepare, until_merged
from tests.integration.control import SECRET, ControlApi, running_control_api
from tests.integration.door import running_door
from tests.running import free_port, running_stack, scratch

LARGE, OF_LARGE = 5, 1_000
"""So many organizations have so many campaigns, the others share the rest."""
_USERS_OF_ONE = 20
_PARTITIONS = 4
COPIES = """
    -- Of campaign $1, for organization $2, with the ids $3.
    WITH made AS (
        INSERT INTO control.campaigns (id, organization_id, name, description, status, type, targeting_rules,
            start_date, end_date, currency, budget_amount, budget_currency, settings, created_by)
        SELECT i.id, $2::uuid, c.name || ' ' || i.id, c.description, c.status, c.type, c.targeting_rules,
            c.start_date, c.end_date, c.currency, c.budget_amount, c.budget_currency, c.settings, c.created_by
        FROM control.campaigns AS c, unnest($3::uuid[]) AS i (id)
        WHERE c.id = $1::uuid
        RETURNING id, organization_id, currency
    )
    INSERT INTO ledger.accounts (campaign_id, organization_id, currency, budget, max_impressions)
    SELECT made.*, a.budget, a.max_impressions
    FROM made, ledger.accounts AS a
    WHERE a.campaign_id = $1::uuid
"""

_ADMINS = """
    INSERT INTO control.users (id, organization_id, email, roles)
    SELECT id, $1::uuid, id || '@bench.invalid', '{admin}' FROM unnest($2::uuid[]) AS u (id)
"""


@dataclass(frozen=True)
class Organization:
    """Campaigns, and the tokens of its users."""

    campaigns: list[str]
    tokens: list[str]


@dataclass(frozen=True)
class World:
    """A control API that is ready; `settling` is the aggregator, `template` the campaign that all others are
    copies of, `pids` are those of all processes, by name."""

    api: ControlApi
    settling: Service
    pids: dict[str, int]
    organizations: list[Organization]
    large: list[Organization]
    template: dict[str, Any]


@asynccontextmanager
async def world(campaigns: int, organizations: int, events: int, processes: int) -> AsyncIterator[World]:
    """Everything runs, so many processes of the control API on one port, and the door knows all campaigns."""
    async with AsyncExitStack() as kept:
        folder = kept.enter_context(scratch())
        stack = kept.enter_context(running_stack(folder / "state", "--only-engines"))
        postgres, clickhouse = await stack.fresh_postgres(), await stack.fresh_clickhouse()
        engines = Engines(stack, folder, postgres, clickhouse, _PARTITIONS)
        await ensure_topics(engines.kafka, _PARTITIONS)
        port, control_port = free_port(), free_port()

        async def control_api(number: int) -> ControlApi:
            logs = folder / f"control_api-{number}"
            logs.mkdir()
            return await kept.enter_async_context(
                running_control_api(
                    engines.kafka,
                    postgres,
                    logs,
                    FLIGHTLINE_BIND=f"127.0.0.1:{control_port}",
                    FLIGHTLINE_CLICKHOUSE=clickhouse,
                    FLIGHTLINE_INGEST_URL=f"http://127.0.0.1:{port}",
                )
            )

        api = await control_api(0)
        template = await api.active()
        await asyncio.to_thread(api.stop)
        made = await _fill(api, template, _sizes(campaigns, organizations))
        await _store(clickhouse, [each for one in made for each in one.campaigns], events)
        await api.start()
        others = {f"control_api {number}": (await control_api(number)).pid for number in range(1, processes)}
        door = await kept.enter_async_context(running_door(engines.kafka, folder / "door", port=port))
        settling = await kept.enter_async_context(aggregator(engines))

        async def all_known() -> bool:
            known = await metric(door.url, 'flightline_ingest_known{table="campaign-state"}')
            return known >= campaigns

        await until(all_known, 600, every_s=1)
        pids = {name: engines.pid(name) for name in engines.names}
        pids |= {"control_api": api.pid} | others
        pids |= {"ingest": door.process.pid, "aggregator": settling.pid}
        large = [one for one in made if len(one.campaigns) >= OF_LARGE]
        yield World(api, settling, pids, made, large or made, template)


def _sizes(campaigns: int, organizations: int) -> list[int]:
    large = [OF_LARGE] * LARGE if campaigns > LARGE * OF_LARGE and organizations > LARGE else []
    rest, others = campaigns - sum(large), organizations - len(large)
    return [*large, *(rest // others + (number < rest % others) for number in range(others))]


async def _fill(api: ControlApi, template: dict[str, Any], sizes: list[int]) -> list[Organization]:
    connection = await asyncpg.connect(api.dsn)
    now, made = datetime.now(UTC), []
    for size in sizes:
        organization, ids = new_id(), [new_id() for _ in range(size)]
        await connection.execute(
            "INSERT INTO control.organizations (id, name) VALUES ($1::uuid, 'of the bench')", organization
        )
        await connection.execute(COPIES, template["id"], organization, ids)
        users = [new_id() for _ in range(_USERS_OF_ONE)]
        await connection.execute(_ADMINS, organization, users)
        tokens = [mint_admin_token(SECRET, organization, user, now=now) for user in users]
        made.append(Organization(ids, tokens))
    await connection.execute("VACUUM ANALYZE control.campaigns, ledger.accounts")
    await connection.close()
    return made


async def _store(clickhouse: str, campaigns: list[str], events: int) -> None:
    client = await clickhouse_connect.get_async_client(dsn=clickhouse, send_receive_timeout=600)
    await prepare(client, campaigns)
    since = datetime.now(UTC) - timedelta(days=DAYS)
    await fill(client, new_id(), since, 0, events, first_partition=_PARTITIONS)
    await until_merged(client)
    await client.close()


def dice() -> random.Random:
    """The same choices in each run."""
    return random.Random(1)  # noqa: S311  choices, not secrets
