"""The traffic: campaigns of every kind of pricing, some of which are used up, and mixed requests to them."""

import asyncio
import contextlib
import random
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import aiohttp
import msgspec

from compose.demo.control import ApiRefused, ControlApi, pricing
from schemas.ids import new_id
from tests.e2e.replays import until_served
from tests.faults.client import Client, Way, stated
from tests.faults.record import Event, Record
from tests.running import RunningStack

_TYPES = ("IMPRESSION", "IMPRESSION", "IMPRESSION", "CLICK", "CLICK", "CONVERSION", "BOUNCE", "UNSUBSCRIBE")
_TICK_S = 0.02
_LATE_DAYS = 6.0
_BACKFILL_DAYS = 730.0


class Plan(msgspec.Struct, frozen=True):
    """A campaign to be made. `pays_for` is the type that costs, `price` in micros; None: each states its own.

    `endless` campaigns are never closed, so whatever the door takes for them is billed. What is sent to an
    `abandoned` one is sent once, whether or not there is an answer.
    """

    title: str
    model: str
    price: str
    pays_for: str
    cost: int | None
    budget: str | None = None
    endless: bool = True
    abandoned: bool = False


PLANS = (
    Plan("views", "CPM", "2.50", "IMPRESSION", 2_500),
    Plan("clicks", "CPC", "0.10", "CLICK", 100_000),
    Plan("stated", "EVENT", "0", "", None),
    Plan("used up soon", "CPC", "1", "CLICK", 1_000_000, "30.00", endless=False),
    Plan("used up later", "EVENT", "0", "", None, "120.00", endless=False),
    Plan("abandoned", "CPM", "1", "IMPRESSION", 1_000, abandoned=True),
)


class Campaign(msgspec.Struct, frozen=True):
    """A running campaign, and its plan."""

    id: str
    plan: Plan


async def make_campaigns(stack: RunningStack) -> list[Campaign]:
    """The campaigns of one scene, all of them served by the door."""
    async with ControlApi(stack.ready.control_api, stack.ready.admin_token) as api:
        return await asyncio.gather(*(_make(api, stack, plan) for plan in PLANS))


async def _make(api: ControlApi, stack: RunningStack, plan: Plan) -> Campaign:
    budget = None if plan.budget is None else Decimal(plan.budget)
    draft = await api.create(f"{plan.title} {new_id()}", pricing(plan.model, plan.price), budget)
    await api.activate(draft.id, startNow=True)
    await until_served(stack, draft.id)
    return Campaign(draft.id, plan)


class Traffic:
    """Sends requests at a steady rate, however long the answers take, until it is stopped.

    `copies`: how often each event is sent, by different ways at the same time. `late`: the share of events
    that are days late and out of order; when all are, some are years late.
    """

    def __init__(
        self,
        client: Client,
        campaigns: list[Campaign],
        dice: random.Random,
        *,
        requests_per_second: float,
        copies: int = 1,
        late: float = 0.3,
    ) -> None:
        self.record = Record()
        self._client = client
        self._campaigns = campaigns
        self._dice = dice
        self._rate = requests_per_second
        self._copies = copies
        self._late = late
        self._sending: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []

    async def run(self) -> None:
        """Offers requests until cancelled; what was offered is sent on by itself."""
        began, offered = time.monotonic(), 0
        while True:
            while offered < (time.monotonic() - began) * self._rate:
                self._offer()
                offered += 1
            await asyncio.sleep(_TICK_S)

    async def finish(self, within_s: float) -> None:
        """Waits until all that was offered is answered; then what has no answer is given up."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=within_s)
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        if self._failures:
            raise self._failures[0]

    def _offer(self) -> None:
        dice = self._dice
        ways = [Way.BATCH, Way.LINES, Way.SINGLE, Way.SINGLE, Way.PIXEL, Way.MINIMAL]
        way = dice.choice(ways)
        few = way in {Way.BATCH, Way.LINES}
        with_status = way not in {Way.PIXEL, Way.MINIMAL}
        campaign = self._campaign(endless=not with_status)
        events = [self._event(campaign, with_status) for _ in range(dice.randint(5, 25) if few else 1)]
        if few and not campaign.plan.abandoned and dice.random() < 0.2:
            events.insert(dice.randrange(len(events)), self._malformed(campaign))
        self._start(events, way, gives_up=campaign.plan.abandoned)
        for _ in range(self._copies - 1):
            self._copy(events, campaign)
        if dice.random() < 0.1:
            self._repeat()

    def _copy(self, events: list[Event], campaign: Campaign) -> None:
        """The same events once more, by another way."""
        ways = [Way.BATCH, Way.LINES, Way.SINGLE]
        if campaign.plan.endless:
            ways += [Way.PIXEL, Way.MINIMAL]
        way = self._dice.choice(ways)
        well_formed = [event for event in events if not event.malformed]
        self._dice.shuffle(well_formed)
        if way in {Way.BATCH, Way.LINES}:
            self._start(well_formed, way, gives_up=campaign.plan.abandoned)
        else:
            for event in well_formed:
                self._start([event], way, gives_up=campaign.plan.abandoned)

    def _repeat(self) -> None:
        """Events of a while ago again, as a page does that was loaded anew."""
        events = self.record.events[-2_000:]
        known = [e for e in self._dice.sample(events, min(5, len(events))) if e.answers and not e.malformed]
        if known:
            self._start(known, Way.BATCH, gives_up=False)

    def _start(self, events: list[Event], way: Way, *, gives_up: bool) -> None:
        task = asyncio.create_task(self._client.deliver(events, way, gives_up=gives_up))
        self._sending.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failures.append(error)

    def _campaign(self, *, endless: bool) -> Campaign:
        return self._dice.choice([c for c in self._campaigns if c.plan.endless or not endless])

    def _event(self, campaign: Campaign, with_status: bool) -> Event:
        dice, plan = self._dice, campaign.plan
        type_ = dice.choice(_TYPES)
        event_id = new_id()
        body: dict[str, Any] = {
            "eventId": event_id,
            "campaignId": campaign.id,
            "type": type_,
            "visitorId": f"v-{dice.randrange(5_000)}",
        }
        cost = plan.cost or 0 if type_ == plan.pays_for else 0
        if plan.cost is None:
            cost = dice.randint(1, 200_000)
            body["cost"] = stated(cost)
        if dice.random() < self._late:
            # What is years late is unbilled, which an answer without a status does not tell.
            years = self._late == 1 and with_status and not campaign.plan.abandoned and dice.random() < 0.2
            _put_time(body, dice, _BACKFILL_DAYS if years else _LATE_DAYS)
        return self.record.add(Event(event_id, campaign.id, type_, cost, body, time.monotonic()))

    def _malformed(self, campaign: Campaign) -> Event:
        event_id = new_id()
        body = {"eventId": event_id, "campaignId": campaign.id, "type": "VIEW"}
        event = Event(event_id, campaign.id, "VIEW", 0, body, time.monotonic(), malformed=True)
        return self.record.add(event)


def _put_time(body: dict[str, Any], dice: random.Random, days: float) -> None:
    """Days late, and out of order; some come from clocks that are wrong."""
    happened = datetime.now(UTC) - timedelta(days=dice.uniform(0, days))
    wrong = timedelta(seconds=dice.choice([0.0, 0.0, dice.uniform(-86_400, 86_400)]))
    if wrong:
        body["sentAt"] = _text(datetime.now(UTC) + wrong)
    body["occurredAt"] = _text(happened + wrong)


def _text(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds")


async def acknowledge_budgets(stack: RunningStack, campaigns: list[Campaign]) -> None:
    """A marketer who resumes whatever was paused at 90 % of its budget, until cancelled."""
    budgeted = [campaign for campaign in campaigns if campaign.plan.budget is not None]
    async with ControlApi(stack.ready.control_api, stack.ready.admin_token) as api:
        while True:
            for campaign in budgeted:
                with contextlib.suppress(ApiRefused, aiohttp.ClientError, OSError, msgspec.MsgspecError):
                    if (await api.get(campaign.id)).status == "PAUSED":
                        await api.activate(campaign.id, acknowledgeBudget=True)
            await asyncio.sleep(0.5)
