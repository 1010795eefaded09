"""Simulated visitors: they see campaigns, sometimes click or buy, and report it as SDKs and pixels do."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import aiohttp
import msgspec

from compose.demo.scenario import Running
from schemas.ids import new_id
from schemas.reasons import EventType

_TICK_S = 0.1
_RETRY_S = 0.5
_PIXELS = 0.05
"""The share of impressions that mails and pages without script report by an image."""

_BROWSER = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0 Safari/537.36"
)
_COUNTED = frozenset({"accepted", "unbilled"})
_TIMEOUT = aiohttp.ClientTimeout(total=15)

_encoder = msgspec.json.Encoder(decimal_format="number")

Event = dict[str, Any]


class _Result(msgspec.Struct, frozen=True):
    status: str
    serve: bool = True


class _Results(msgspec.Struct, frozen=True):
    results: list[_Result]


class Crowd:
    """Decides what visitors do. Pure but for its own dice; times are the caller's."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)  # noqa: S311  a simulation

    def events(self, campaign: Running, seconds: float, now: datetime) -> list[Event]:
        """What happens to a campaign within some seconds, in the order in which it happens."""
        expected = campaign.plot.views * seconds
        views = int(expected) + (self._dice.random() < expected % 1)
        return [event for _ in range(views) for event in self._visit(campaign, now)]

    def takes_pixel(self, event: Event) -> bool:
        """Whether this impression is reported by an image."""
        return event["type"] is EventType.IMPRESSION and "cost" not in event and self._dice.random() < _PIXELS

    def _visit(self, campaign: Running, now: datetime) -> list[Event]:
        plot, dice = campaign.plot, self._dice
        visitor = f"v-{dice.randrange(20_000)}"
        shown = self._event(campaign, EventType.IMPRESSION, visitor, now)
        if plot.cost is not None:
            low, high = (int(Decimal(bound).scaleb(6)) for bound in plot.cost)
            shown["cost"] = {"amount": Decimal(dice.randint(low, high)).scaleb(-6)}
        if dice.random() >= plot.click_rate:
            return [shown]
        click = self._event(campaign, EventType.CLICK, visitor, now)
        if dice.random() >= plot.conversion_rate:
            return [shown, click]
        sale = self._event(campaign, EventType.CONVERSION, visitor, now)
        sale["revenue"] = {"amount": Decimal(dice.randrange(990, 12_990)).scaleb(-2), "currency": "EUR"}
        return [shown, click, sale]

    def _event(self, campaign: Running, kind: EventType, visitor: str, now: datetime) -> Event:
        return {
            "eventId": new_id(),
            "campaignId": campaign.id,
            "type": kind,
            "occurredAt": now.isoformat(),
            "visitorId": visitor,
            "channel": "WEB",
            "placement": self._dice.choice(("hero", "sidebar", "footer")),
        }


class Visitors:
    """Traffic for some campaigns until it is cancelled. `counted` is what the door has promised to count, by
    campaign and type; a campaign that is not to be served is not shown until the door says otherwise."""

    def __init__(
        self, door: str, write_key: str, server_key: str, campaigns: Sequence[Running], seed: int
    ) -> None:
        self._door = door
        self._keys = {False: write_key, True: server_key}
        self._campaigns = campaigns
        self._crowd = Crowd(seed)
        self._serve: dict[str, bool] = {}
        self.counted: Counter[tuple[str, EventType]] = Counter()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; every event that was begun is then still sent until it is answered."""
        headers = {"User-Agent": _BROWSER}
        async with (
            aiohttp.ClientSession(headers=headers, timeout=_TIMEOUT) as self._session,
            asyncio.TaskGroup() as sending,
        ):
            while not stop.is_set():
                await self._look()
                now = datetime.now(UTC)
                for campaign in self._campaigns:
                    if self._serve.get(campaign.id, True):
                        self._report(self._crowd.events(campaign, _TICK_S, now), sending)
                await asyncio.sleep(_TICK_S)

    def _report(self, events: list[Event], sending: asyncio.TaskGroup) -> None:
        """Pixels alone, all else in one batch. An ad server states costs, so it has the server key."""
        pixels = [event for event in events if self._crowd.takes_pixel(event)]
        batch = [event for event in events if event not in pixels]
        for pixel in pixels:
            sending.create_task(self._send_pixel(pixel))
        if batch:
            sending.create_task(self._send_batch(batch))

    async def _send_batch(self, events: list[Event]) -> None:
        """Sends until every event is answered, with the same ids."""
        key = self._keys["cost" in events[0]]
        headers = {"X-Write-Key": key, "Content-Type": "application/json"}
        while events:
            body = _encoder.encode(events)
            answer = await self._ask("POST", "/v1/events", data=body, headers=headers)
            if answer is None:
                await asyncio.sleep(_RETRY_S)
                continue
            results = msgspec.json.decode(answer, type=_Results).results
            for event, result in zip(events, results, strict=True):
                self._note(event, result)
            events = [e for e, r in zip(events, results, strict=True) if r.status == "retry"]
            if events:
                await asyncio.sleep(_RETRY_S)

    async def _send_pixel(self, event: Event) -> None:
        parameters = {"key": self._keys[False], **{name: str(value) for name, value in event.items()}}
        while await self._ask("GET", "/v1/pixel.gif", params=parameters) is None:
            await asyncio.sleep(_RETRY_S)
        self.counted[event["campaignId"], event["type"]] += 1

    async def _look(self) -> None:
        """Asks which campaigns are to be shown, as an SDK does before it shows one."""
        ids = ",".join(campaign.id for campaign in self._campaigns)
        headers = {"X-Write-Key": self._keys[False]}
        answer = await self._ask("GET", "/v1/serve", params={"campaigns": ids}, headers=headers)
        if answer is not None:
            found = msgspec.json.decode(answer)["campaigns"]
            self._serve = {campaign: state["serve"] for campaign, state in found.items()}

    def _note(self, event: Event, result: _Result) -> None:
        if result.status in _COUNTED:
            self.counted[event["campaignId"], event["type"]] += 1
        if not result.serve:
            self._serve[event["campaignId"]] = False

    async def _ask(self, method: str, path: str, **request: Any) -> bytes | None:
        """The answer's body; None when the door can't be reached or asks to come back later."""
        try:
            async with self._session.request(method, self._door + path, **request) as response:
                return await response.read() if response.status in {200, 202, 422} else None
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None


def totals(counted: Mapping[tuple[str, EventType], int], campaign_id: str) -> tuple[int, int, int]:
    """Impressions, clicks and conversions that were promised for a campaign."""
    impressions, clicks, conversions = (
        counted.get((campaign_id, kind), 0)
        for kind in (EventType.IMPRESSION, EventType.CLICK, EventType.CONVERSION)
    )
    return impressions, clicks, conversions
