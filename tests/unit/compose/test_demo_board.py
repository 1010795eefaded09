"""The board shows the same figures on a terminal, as a table, and elsewhere, as lines."""

import io
from decimal import Decimal

from rich.console import Console

from compose.demo.board import Board
from compose.demo.control import Campaign, Metrics, Money
from compose.demo.scenario import PLOTS, Running

RUNNING = [Running(plot, f"id-{plot.name}", Decimal(plot.budget) if plot.budget else None) for plot in PLOTS]


def euros(amount: str) -> Money:
    return Money(Decimal(amount), "EUR")


STATE = Campaign(
    id=RUNNING[0].id,
    name="Flash deal",
    status="PAUSED",
    status_reason="BUDGET_90",
    budget=euros("2.00"),
    metrics=Metrics(
        impressions=1611,
        clicks=7,
        conversions=0,
        cost=euros("1.833"),
        overdelivery_cost=euros("0"),
        ctr=Decimal("0.4"),
        unbilled={"PAUSED": 3, "BUDGET_90": 1},
    ),
)


def shown(*, terminal: bool) -> str:
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=160, color_system=None)
    with Board(console, RUNNING) as board:
        board.tell("it is told")
        board.show({STATE.id: STATE})
    return output.getvalue()


def test_a_terminal_gets_a_table_with_every_campaign_and_the_news() -> None:
    text = shown(terminal=True)
    for plot in PLOTS:
        assert plot.name in text
    for figure in ("PAUSED BUDGET_90", "1,611", "1.833000", "91.6 %", "it is told"):
        assert figure in text


def test_elsewhere_each_campaign_is_a_line() -> None:
    lines = shown(terminal=False).splitlines()
    assert "it is told" in lines[0]
    assert len(lines) == 1 + len(PLOTS)
    assert "1,611 impressions     7 clicks  billed 1.833000 of 2.00 (91.6 %)" in lines[1]
    assert lines[1].endswith("4 unbilled")
