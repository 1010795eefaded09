"""The campaigns of the demo: the ways to pay, and a small budget that is used up before one's eyes."""

from decimal import Decimal

import msgspec

from compose.demo.control import Campaign, ControlApi, pricing


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """A campaign to be made, and how its visitors behave.

    `views` is impressions a second; `click_rate` is clicks for each impression, `conversion_rate` conversions
    for each click; `cost` is what an ad server pays for an impression (EVENT pricing only).
    """

    name: str
    model: str
    price: str = "0"
    budget: str | None = None
    views: float
    click_rate: float
    conversion_rate: float = 0.04
    cost: tuple[str, str] | None = None


SMALL = "Flash deal"
PLOTS = (
    # At 3.00 for a thousand, the 667th impression is worth more than what is left: it is billed in part.
    Plot(name=SMALL, model="CPM", price="3.00", budget="2.00", views=45, click_rate=0.012),
    Plot(name="Summer sale", model="CPM", price="2.50", budget="500.00", views=60, click_rate=0.008),
    Plot(name="Newsletter", model="CPC", price="0.35", budget="300.00", views=25, click_rate=0.03),
    Plot(name="Home page", model="FLAT", price="1500.00", budget="2000.00", views=30, click_rate=0.005),
    Plot(name="Ad exchange", model="EVENT", views=40, click_rate=0.006, cost=("0.000050", "0.000450")),
)


class Running(msgspec.Struct, frozen=True):
    """A campaign that was made for this run."""

    plot: Plot
    id: str
    budget: Decimal | None


async def start_campaigns(api: ControlApi, run: str) -> list[Running]:
    """Makes all campaigns and starts them; `run` sets their names apart from those of earlier runs."""
    return [await _start(api, plot, run) for plot in PLOTS]


async def _start(api: ControlApi, plot: Plot, run: str) -> Running:
    budget = None if plot.budget is None else Decimal(plot.budget)
    draft: Campaign = await api.create(f"{plot.name} {run}", pricing(plot.model, plot.price), budget)
    await api.activate(draft.id, startNow=True)
    return Running(plot, draft.id, budget)
