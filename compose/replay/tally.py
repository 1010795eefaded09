"""What became of the events of a replay, and how it is told at the end."""

from collections import Counter

import msgspec
from rich.console import Console
from rich.table import Table

from compose.replay.door import Result, Status
from compose.replay.plan import OutgoingEvent
from compose.replay.source import Row

_SAMPLES = 5


class Tally(msgspec.Struct):
    """Counts of events, but for `malformed` and `other_rows`, which are rows."""

    accepted: int = 0
    unbilled: Counter[str] = msgspec.field(default_factory=Counter)
    rejected: Counter[str] = msgspec.field(default_factory=Counter)
    skipped: Counter[str] = msgspec.field(default_factory=Counter)
    retried: int = 0
    malformed: int = 0
    other_rows: int = 0
    """Rows whose campaign is not in the table of campaigns."""
    rejects: list[str] = msgspec.field(default_factory=list)
    malformed_rows: list[str] = msgspec.field(default_factory=list)
    seconds: float = 0.0

    @property
    def answered(self) -> int:
        return self.accepted + self.unbilled.total() + self.rejected.total()

    def add(self, event: OutgoingEvent, result: Result) -> None:
        """Counts a final answer."""
        match result.status:
            case Status.ACCEPTED:
                self.accepted += 1
            case Status.UNBILLED:
                self.unbilled[result.reason] += 1
            case _:
                self.rejected[result.reason] += 1
                if len(self.rejects) < _SAMPLES:
                    self.rejects.append(
                        f"{event.type} {event.event_id} of {event.campaign_id}: "
                        f"{result.reason} {result.detail}"
                    )

    def add_malformed(self, row: Row, problem: str) -> None:
        self.malformed += 1
        if len(self.malformed_rows) < _SAMPLES:
            self.malformed_rows.append(f"line {row.line}: {problem}")


def show(tally: Tally, console: Console) -> None:
    """The summary."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    table.add_row("accepted", f"{tally.accepted:,}")
    for title, counts in (
        ("unbilled", tally.unbilled),
        ("rejected", tally.rejected),
        ("skipped", tally.skipped),
    ):
        for reason, count in sorted(counts.items()):
            table.add_row(f"{title} {reason}", f"{count:,}")
    for title, count in (
        ("sent again", tally.retried),
        ("malformed rows", tally.malformed),
        ("rows of other campaigns", tally.other_rows),
    ):
        if count:
            table.add_row(title, f"{count:,}")
    rate = tally.answered / tally.seconds if tally.seconds else 0.0
    table.add_row("answered", f"{tally.answered:,}")
    table.add_row("seconds", f"{tally.seconds:,.1f}")
    table.add_row("events/s", f"{rate:,.0f}")
    console.print(table)
    for title, samples, total in (
        ("rejected", tally.rejects, tally.rejected.total()),
        ("malformed", tally.malformed_rows, tally.malformed),
    ):
        for sample in samples:
            console.print(f"[yellow]{title}[/yellow] {sample}", soft_wrap=True)
        if total > len(samples):
            console.print(f"[yellow]{title}[/yellow] … and {total - len(samples):,} more")
