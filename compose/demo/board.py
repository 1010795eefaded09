"""What the demo shows: a live table on a terminal, lines elsewhere."""

import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from compose.demo.control import Campaign
from compose.demo.scenario import Running

_LINES_EVERY_S = 2.0
_NEWS_SHOWN = 8
_COLOURS = {"ACTIVE": "green", "PAUSED": "yellow", "COMPLETED": "cyan"}


class Board:
    """Use as a context manager. `tell` adds a line of news, `show` the present figures."""

    def __init__(self, console: Console, campaigns: Sequence[Running]) -> None:
        self._console = console
        self._campaigns = campaigns
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._news: list[str] = []
        self._started = time.monotonic()
        self._last_lines = 0.0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def tell(self, news: str) -> None:
        line = f"{time.monotonic() - self._started:5.1f} s  {news}"
        self._news.append(line)
        if self._live is None:
            self._console.print(line, soft_wrap=True)

    def show(self, states: Mapping[str, Campaign]) -> None:
        if self._live is not None:
            news = [Text(line) for line in self._news[-_NEWS_SHOWN:]]
            self._live.update(Group(self._table(states), *news))
        elif time.monotonic() - self._last_lines >= _LINES_EVERY_S:
            self._last_lines = time.monotonic()
            for running in self._campaigns:
                self._console.print(_line(running, states.get(running.id)), soft_wrap=True, markup=False)

    def _table(self, states: Mapping[str, Campaign]) -> Table:
        table = Table(title="Flightline", title_justify="left")
        for column in ("campaign", "pricing", "status"):
            table.add_column(column)
        for column in (
            "impressions",
            "clicks",
            "CTR %",
            "billed",
            "budget",
            "used",
            "overdelivery",
            "unbilled",
        ):
            table.add_column(column, justify="right")
        for running in self._campaigns:
            state = states.get(running.id)
            name, pricing, status, *figures = _cells(running, state)
            colour = _COLOURS.get(state.status if state else "", "white")
            table.add_row(name, pricing, Text(status, style=colour), *figures)
        return table


def _cells(running: Running, state: Campaign | None) -> list[str]:
    plot = running.plot
    if state is None or state.metrics is None:
        return [plot.name, plot.model, *[""] * 9]
    metrics = state.metrics
    billed, budget = metrics.cost.amount, running.budget
    reason = f" {state.status_reason}" if state.status_reason else ""
    return [
        plot.name,
        plot.model,
        f"{state.status}{reason}",
        f"{metrics.impressions:,}",
        f"{metrics.clicks:,}",
        "" if metrics.ctr is None else str(metrics.ctr),
        f"{billed:,.6f}",
        "" if budget is None else f"{budget:,.2f}",
        "" if not budget else _share(billed, budget),
        f"{metrics.overdelivery_cost.amount:,.6f}",
        f"{sum(metrics.unbilled.values()):,}",
    ]


def _line(running: Running, state: Campaign | None) -> str:
    name, _, status, impressions, clicks, _, billed, budget, used, over, unbilled = _cells(running, state)
    spent = f"billed {billed} of {budget} ({used})" if budget else f"billed {billed}"
    return (
        f"         {name:<12} {status:<21} {impressions:>7} impressions {clicks:>5} clicks  {spent}, "
        f"overdelivery {over}, {unbilled} unbilled"
    )


def _share(billed: Decimal, budget: Decimal) -> str:
    return f"{billed / budget * 100:.1f} %"
