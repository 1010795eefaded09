"""Events that are right and unusual: two years in one request, and some that outlive their campaign."""

from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import asyncpg
import clickhouse_connect
import pytest

from compose.demo.control import Campaign
from schemas.ids import new_id
from tests.e2e.replays import control_api, eventually, running_campaign
from tests.processes import frozen
from tests.running import RunningStack

_WITHIN = 60.0
_MONTHS = 24
_CLICKS = 50

pytestmark = pytest.mark.timeout(300)


async def send(stack: RunningStack, events: list[dict[str, Any]]) -> list[str]:
    """All in one request; the status of each."""
    headers = {"X-Write-Key": stack.ready.server_key}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{stack.ready.ingest}/v1/events", json=events, headers=headers) as answer,
    ):
        assert answer.status == 202, await answer.text()
        return [result["status"] for result in (await answer.json())["results"]]


async def clicks_counted(stack: RunningStack, campaign: Campaign) -> int:
    connection = await asyncpg.connect(stack.ready.postgres)
    try:
        statement = "SELECT clicks FROM ledger.accounts WHERE campaign_id = $1::uuid"
        return int(await connection.fetchval(statement, campaign.id))
    finally:
        await connection.close()


async def rows_stored(stack: RunningStack, campaign: Campaign) -> dict[str, datetime]:
    """When each event happened, by its id; each must be stored once."""
    client = await clickhouse_connect.get_async_client(dsn=stack.ready.clickhouse)
    try:
        result = await client.query(
            "SELECT event_id, occurred_at FROM events WHERE campaign_id = {campaign:UUID}",
            {"campaign": campaign.id},
        )
    finally:
        await client.close()
    assert len(result.result_rows) == len({event_id for event_id, _ in result.result_rows})
    return {event_id: at.replace(tzinfo=UTC) for event_id, at in result.result_rows}


async def test_a_backfill_over_24_months_in_one_request_is_counted_once_at_its_own_time(
    stack: RunningStack,
) -> None:
    async with control_api(stack) as api:
        campaign = await running_campaign(api, stack, "backfill", model="CPC", price="1")
    now = datetime.now(UTC).replace(microsecond=0)
    happened = {new_id(): now - timedelta(days=30 * month + 8) for month in range(_MONTHS)}
    events = [
        {"eventId": event_id, "campaignId": campaign.id, "type": "CLICK", "occurredAt": at.isoformat()}
        for event_id, at in happened.items()
    ]
    assert await send(stack, events) == ["unbilled"] * _MONTHS
    assert await send(stack, events[::-1]) == ["unbilled"] * _MONTHS

    async def all_are_stored() -> bool:
        return await rows_stored(stack, campaign) == happened

    await eventually(all_are_stored, _WITHIN, "all are stored at their own time")
    assert await clicks_counted(stack, campaign) == _MONTHS


async def test_events_in_flight_of_a_campaign_that_is_deleted_are_counted_once(stack: RunningStack) -> None:
    async with control_api(stack) as api:
        campaign = await running_campaign(api, stack, "deleted", model="CPC", price="1")
    ids = {new_id() for _ in range(_CLICKS)}
    events = [{"eventId": event_id, "campaignId": campaign.id, "type": "CLICK"} for event_id in ids]
    # Once an event is recorded its campaign can't be deleted, so nobody may record them yet.
    with frozen(stack.ready.processes["aggregator"]):
        assert await send(stack, events) == ["accepted"] * _CLICKS
        await pause_and_delete(stack, campaign)

    async def all_are_stored() -> bool:
        return (await rows_stored(stack, campaign)).keys() == ids

    await eventually(all_are_stored, _WITHIN, "all are stored")
    assert await clicks_counted(stack, campaign) == _CLICKS


async def pause_and_delete(stack: RunningStack, campaign: Campaign) -> None:
    url = f"{stack.ready.control_api}/api/v1/campaigns/{campaign.id}"
    headers = {"Authorization": f"Bearer {stack.ready.admin_token}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        async with http.post(f"{url}/pause", json={}) as answer:
            assert answer.status == 200, await answer.text()
        async with http.delete(url) as answer:
            assert answer.status == 204, await answer.text()
        async with http.get(url) as answer:
            assert answer.status == 404
