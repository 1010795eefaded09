"""Budgets, limits and dates through the whole stack: from a beacon at the door to the campaign's status."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from schemas.ids import new_id
from tests.e2e.replays import until_served
from tests.processes import frozen
from tests.running import RunningStack

EUR = "EUR"
_WITHIN_S = 60


class Client:
    """A marketer at the control API and an ad server at the door."""

    def __init__(self, session: aiohttp.ClientSession, stack: RunningStack) -> None:
        self._session = session
        self._stack = stack
        self._ready = stack.ready

    async def api(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        headers = {"Authorization": f"Bearer {self._ready.admin_token}"}
        url = f"{self._ready.control_api}/api/v1{path}"
        async with self._session.request(method, url, json=body, headers=headers) as response:
            answer = await response.json()
            assert response.status < 400, answer
            return answer

    async def campaign(
        self,
        model: str,
        price: str,
        budget: str | None,
        ends_in: timedelta = timedelta(days=1),
        **settings: Any,
    ) -> str:
        """A campaign that runs from now on, also at the door; its id."""
        now = datetime.now(UTC)
        body: dict[str, Any] = {
            "name": f"{model} {new_id()}",
            "type": "PROMOTION",
            "targetingRules": ["everyone"],
            "startDate": (now + ends_in / 2).isoformat(),
            "endDate": (now + ends_in).isoformat(),
            "settings": {
                "channels": ["WEB"],
                "frequency": "DAILY",
                "pricing": {"model": model, "price": {"amount": price, "currency": EUR}},
                **settings,
            },
        }
        if budget is not None:
            body["budget"] = {"amount": budget, "currency": EUR}
        campaign = await self.api("POST", "/campaigns", body)
        await self.api("POST", f"/campaigns/{campaign['id']}/activate", {"startNow": True})
        await until_served(self._stack, campaign["id"])
        return str(campaign["id"])

    async def send(self, campaign_id: str, *types: str, **fields: Any) -> list[dict[str, Any]]:
        """Events in one request; the door's results."""
        events = [{"campaignId": campaign_id, "type": type_, **fields} for type_ in types]
        headers = {"X-Write-Key": self._ready.server_key}
        async with self._session.post(
            f"{self._ready.ingest}/v1/events", json=events, headers=headers
        ) as answer:
            assert answer.status == 202, await answer.text()
            results: list[dict[str, Any]] = (await answer.json())["results"]
            return results

    async def serve(self, campaign_id: str) -> dict[str, Any]:
        url = f"{self._ready.ingest}/v1/serve?campaigns={campaign_id}"
        async with self._session.get(url, headers={"X-Write-Key": self._ready.write_key}) as answer:
            found: dict[str, Any] = (await answer.json())["campaigns"][campaign_id]
            return found

    async def eventually_serves(
        self, campaign_id: str, expected: dict[str, Any], within_s: float = _WITHIN_S
    ) -> None:
        async with asyncio.timeout(within_s):
            while await self.serve(campaign_id) != expected:
                await asyncio.sleep(0.05)

    async def eventually(
        self, campaign_id: str, status: str, reason: str | None, events: int = 0
    ) -> dict[str, Any]:
        """The campaign, once it has this status and as many events: partitions are billed independently."""
        async with asyncio.timeout(_WITHIN_S):
            while True:
                campaign: dict[str, Any] = await self.api("GET", f"/campaigns/{campaign_id}")
                counted = sum(campaign["metrics"][kind] for kind in ("impressions", "clicks", "conversions"))
                if (campaign["status"], campaign["statusReason"]) == (status, reason) and counted >= events:
                    return campaign
                await asyncio.sleep(0.05)


@asynccontextmanager
async def client(stack: RunningStack) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield Client(session, stack)


@pytest.mark.parametrize(
    ("model", "price", "type_", "fields"),
    [
        ("CPM", "1000", "IMPRESSION", {}),
        ("CPC", "1", "CLICK", {}),
        ("CPA", "1", "CONVERSION", {}),
        ("EVENT", "0", "IMPRESSION", {"cost": {"amount": 1}}),
    ],
)
async def test_a_budget_is_billed_to_the_micro_and_the_rest_is_overdelivery(
    stack: RunningStack, model: str, price: str, type_: str, fields: dict[str, Any]
) -> None:
    async with client(stack) as user:
        campaign_id = await user.campaign(model, price, "5.50")
        results = await user.send(campaign_id, *[type_] * 8, **fields)
        assert {result["status"] for result in results} == {"accepted"}
        campaign = await user.eventually(campaign_id, "COMPLETED", "BUDGET_100", events=8)
        metrics = campaign["metrics"]
        assert metrics["cost"]["amount"] == 5.5
        assert metrics["overdeliveryCost"]["amount"] == 2.5
        await user.eventually_serves(campaign_id, {"serve": False, "reason": "BUDGET_100"})
        (late,) = await user.send(campaign_id, type_, **fields)
        assert (late["status"], late["reason"], late["serve"]) == ("unbilled", "BUDGET_100", False)


async def test_a_flat_price_is_billed_once_with_the_first_billable_event(stack: RunningStack) -> None:
    async with client(stack) as user:
        campaign_id = await user.campaign("FLAT", "40", "100.00")
        for _ in range(3):
            await user.send(campaign_id, "IMPRESSION", "CLICK")
        async with asyncio.timeout(_WITHIN_S):
            while True:
                metrics = await user.api("GET", f"/campaigns/{campaign_id}/metrics")
                if metrics["impressions"] + metrics["clicks"] == 6:
                    break
                await asyncio.sleep(0.05)
        assert (metrics["impressions"], metrics["clicks"], metrics["cost"]["amount"]) == (3, 3, 40)
        assert metrics["overdeliveryCost"]["amount"] == 0


async def test_ninety_percent_pause_and_resume_only_with_an_acknowledgement(stack: RunningStack) -> None:
    async with client(stack) as user:
        campaign_id = await user.campaign("CPC", "1", "10.00")
        await user.send(campaign_id, *["CLICK"] * 9)
        await user.eventually(campaign_id, "PAUSED", "BUDGET_90")
        await user.eventually_serves(campaign_id, {"serve": False, "reason": "BUDGET_90"})
        with pytest.raises(AssertionError, match="budget-not-acknowledged"):
            await user.api("POST", f"/campaigns/{campaign_id}/activate", {})
        await user.api("POST", f"/campaigns/{campaign_id}/activate", {"acknowledgeBudget": True})
        await user.eventually_serves(campaign_id, {"serve": True})
        await user.send(campaign_id, "CLICK", "CLICK")
        campaign = await user.eventually(campaign_id, "COMPLETED", "BUDGET_100", events=11)
        assert campaign["metrics"]["cost"]["amount"] == 10
        assert campaign["metrics"]["overdeliveryCost"]["amount"] == 1


async def test_max_impressions_complete_a_campaign_and_what_is_beyond_costs_nothing(
    stack: RunningStack,
) -> None:
    async with client(stack) as user:
        campaign_id = await user.campaign("CPM", "1000", None, maxImpressions=10)
        await user.send(campaign_id, *["IMPRESSION"] * 15)
        campaign = await user.eventually(campaign_id, "COMPLETED", "MAX_IMPRESSIONS", events=15)
        metrics = campaign["metrics"]
        assert (metrics["impressions"], metrics["billableImpressions"]) == (15, 10)
        assert (metrics["cost"]["amount"], metrics["overdeliveryCost"]["amount"]) == (10, 5)
        await user.eventually_serves(campaign_id, {"serve": False, "reason": "MAX_IMPRESSIONS"})


async def test_the_end_date_completes_a_campaign_and_late_clicks_stay_billable(stack: RunningStack) -> None:
    async with client(stack) as user:
        campaign_id = await user.campaign("CPC", "1", "10.00", ends_in=timedelta(seconds=14))
        await user.eventually(campaign_id, "COMPLETED", "END_DATE")
        shown, clicked = await user.send(campaign_id, "IMPRESSION", "CLICK")
        assert (shown["status"], shown["reason"], shown["serve"]) == ("unbilled", "END_DATE", False)
        assert (clicked["status"], clicked["serve"]) == ("accepted", False)


async def test_the_door_closes_while_the_control_api_is_away_which_catches_up_when_it_is_back(
    stack: RunningStack,
) -> None:
    async with client(stack) as user:
        campaign_id = await user.campaign("CPC", "1", "5.00")
        with frozen(stack.ready.processes["control_api"]):
            await user.send(campaign_id, *["CLICK"] * 6)
            await user.eventually_serves(campaign_id, {"serve": False, "reason": "BUDGET_100"})
        campaign = await user.eventually(campaign_id, "COMPLETED", "BUDGET_100", events=6)
        assert campaign["metrics"]["cost"]["amount"] == 5


async def test_billing_and_gates_go_on_while_clickhouse_is_away_and_storing_catches_up(
    stack: RunningStack,
) -> None:
    async with client(stack) as user:
        campaign_id = await user.campaign("CPC", "1", "5.00")
        with frozen(stack.ready.processes["clickhouse"]):
            await user.send(campaign_id, *["CLICK"] * 6)
            await user.eventually_serves(campaign_id, {"serve": False, "reason": "BUDGET_100"})
        async with asyncio.timeout(60):
            while await stored_events(stack, campaign_id) < 6:
                await asyncio.sleep(0.1)
        assert await stored_events(stack, campaign_id) == 6


async def stored_events(stack: RunningStack, campaign_id: str) -> int:
    query = f"SELECT count() FROM events WHERE campaign_id = '{campaign_id}'"  # noqa: S608  an id of our own
    address = stack.ready.clickhouse
    base, _, database = address.rpartition("/")
    async with (
        aiohttp.ClientSession() as session,
        session.post(base, params={"database": database}, data=query) as answer,
    ):
        return int(await answer.text())
