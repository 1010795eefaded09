"""How a reconciliation is told: a table, or JSON."""

from decimal import Decimal
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from compose.reconcile.figures import COUNTS, INVALID, Figures
from compose.reconcile.ledger import Snapshot
from compose.reconcile.reconcile import Outcome
from schemas.money import MICRO_DECIMALS

_SHOWN = (*list(COUNTS.values())[:3], "other", "bots", "unbilled", "duplicates", "billed", "overdelivery")


def as_json(outcome: Outcome) -> bytes:
    """`{"agrees", "campaigns": {id: {"name", "sources": {source: figures}}}, "differences", "counts",
    "newLogs", "lostRows"}`; money in micros."""
    campaigns = {
        campaign_id: {
            "name": _name(outcome, campaign_id),
            "sources": {
                source: figures[campaign_id]
                for source, figures in outcome.sources.items()
                if campaign_id in figures
            },
        }
        for campaign_id in _campaigns(outcome)
    }
    report = {
        "agrees": not outcome.differences,
        "campaigns": campaigns,
        "differences": list(outcome.differences),
        "counts": outcome.differences.counts,
        "newLogs": outcome.snapshot.new_logs,
        "lostRows": outcome.snapshot.lost_rows,
        "projectionsCompared": outcome.projections_compared,
    }
    return msgspec.json.format(msgspec.json.encode(report))


def show(outcome: Outcome, console: Console) -> None:
    """Each campaign's sources side by side, then what differs."""
    table = Table("campaign", "source", *[c.replace("_", " ") for c in _SHOWN], box=None, pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    for campaign_id in _campaigns(outcome):
        title = _name(outcome, campaign_id) or campaign_id
        for source, figures in outcome.sources.items():
            if campaign_id in figures:
                table.add_row(title, source, *_cells(figures[campaign_id]))
                title = ""
    console.print(table)
    if not outcome.projections_compared:
        console.print("[yellow]rows kept coming in: the projections were not compared[/yellow]")
    for text in told(outcome.snapshot):
        console.print(f"[yellow]note[/yellow] {text}", soft_wrap=True, highlight=False)
    for difference in outcome.differences:
        console.print(f"[red]differs[/red] {difference}", soft_wrap=True, highlight=False)
    for kind, count in outcome.differences.counts.items():
        console.print(f"[red]{count:,}[/red] {kind}", highlight=False)
    if not outcome.differences:
        console.print("[green]all agree[/green]")


def told(snapshot: Snapshot) -> list[str]:
    """What was lost for good, or was with a log that is gone: a sentence each."""
    return [
        *(
            f"partition {new.partition} goes on in another log since {new.began_at:%Y-%m-%d %H:%M:%S} UTC "
            f"(incarnation {new.incarnation}, from offset {new.first_offset}): "
            + (
                f"records {new.former_next_offset} to {new.log_first - 1} were deleted unbilled"
                if new.log_first > new.former_next_offset
                else f"{new.lost_rows} billed events of the former one are not in it, and stay counted"
            )
            for new in snapshot.new_logs
        ),
        *(
            f"partition {lost.partition} incarnation {lost.incarnation} offsets {lost.first_offset} to "
            f"{lost.next_offset - 1}: {lost.event_rows} events, {_units(lost.billed)} billed, are counted "
            "and will never be in ClickHouse (their records are gone)"
            for lost in snapshot.lost_rows
        ),
    ]


def _campaigns(outcome: Outcome) -> list[str]:
    """Those with events, in any source."""
    found = {c for figures in outcome.sources.values() for c, each in figures.items() if each.events}
    return sorted(found)


def _name(outcome: Outcome, campaign_id: str) -> str:
    account = outcome.snapshot.accounts.get(campaign_id)
    return (account.name if account else None) or ""


def _cells(figures: Figures) -> list[str]:
    values: dict[str, Any] = {
        **msgspec.structs.asdict(figures),
        "other": figures.bounces + figures.unsubscribes,
        "bots": sum(getattr(figures, name) for name in INVALID.values()),
        "unbilled": figures.unbilled.total(),
        "billed": _units(figures.billed),
        "overdelivery": _units(figures.overdelivery),
    }
    return ["" if values[name] is None else f"{values[name]:,}" for name in _SHOWN]


def _units(micros: int | None) -> Decimal | None:
    return None if micros is None else Decimal(micros).scaleb(-MICRO_DECIMALS)
