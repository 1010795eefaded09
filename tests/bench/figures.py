"""What a bench finds: one row a figure, as a table to read and as JSON to compare."""

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Goal:
    """What a figure is to reach."""

    value: float
    at_most: bool = False

    def met_by(self, value: float) -> bool:
        return value <= self.value if self.at_most else value >= self.value

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {number(self.value)}"


@dataclass(frozen=True)
class Figure:
    """One figure: `samples` are those of the runs; none for what could not be measured, as `notes` tell.

    `beside` holds the samples of what was measured in the same runs, by name.
    """

    row: str
    what: str
    unit: str
    samples: Sequence[float]
    goal: Goal | None = None
    notes: str = ""
    beside: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def median(self) -> float | None:
        return statistics.median(self.samples) if self.samples else None

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return ""
        if self.median is None:
            return "not measured"
        return "yes" if self.goal.met_by(self.median) else "NO"


@dataclass
class Report:
    """All figures of one run of the command, in their order."""

    figures: list[Figure] = field(default_factory=list)
    _stolen: float = field(default_factory=lambda: psutil.cpu_times().steal)
    _started: float = field(default_factory=time.time)

    @property
    def title(self) -> str:
        """Of what code, when, on what, and how much of its cores the machine was denied meanwhile."""
        of, seconds = machine(), time.time() - self._started
        stolen = (psutil.cpu_times().steal - self._stolen) / seconds
        at = datetime.fromtimestamp(self._started, UTC)
        return (
            f"Commit {of['commit']}, {at:%Y-%m-%d %H:%M} UTC, {of['cores']} cores of {of['cpu']}, Python "
            f"{of['python']}; in {seconds / 60:.0f} minutes, with {stolen:.2f} cores stolen by neighbours."
        )

    def add(self, *figures: Figure) -> None:
        self.figures += figures
        for figure in figures:
            print(_line(figure), flush=True)  # noqa: T201  a run takes long: each is shown as it is found

    def table(self) -> str:
        """Markdown."""
        head = (
            "| row | figure | median (min to max) of n | goal | met | beside it |",
            "|---|---|---|---|---|---|",
        )
        return "\n".join([self.title, "", *head, *map(_line, self.figures)])

    def write(self, file: Path) -> None:
        content = {
            "machine": machine(),
            "title": self.title,
            "figures": [{**asdict(figure), "median": figure.median} for figure in self.figures],
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content, indent=1) + "\n")


def _line(figure: Figure) -> str:
    samples = figure.samples
    shown = "—"
    if figure.median is not None:
        spread = (
            f" ({number(min(samples))} to {number(max(samples))}) of {len(samples)}"
            if len(samples) > 1
            else ""
        )
        shown = f"{number(figure.median)}{spread} {figure.unit}"
    beside = [
        f"{name} {number(statistics.median(values))}" for name, values in figure.beside.items() if values
    ]
    cells = (
        figure.row,
        figure.what,
        shown,
        str(figure.goal or ""),
        figure.verdict,
        "; ".join(part for part in (*beside, figure.notes) if part),
    )
    return f"| {' | '.join(cells)} |"


def number(value: float) -> str:
    """Three digits at least, and all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def share(ordered: Sequence[float], part: float) -> float:
    """The value that this part of the ordered samples does not exceed."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def p99_of(row: str, what: str, runs: Sequence[Iterable[float]], goal: Goal, *, notes: str = "") -> Figure:
    """The p99 of the waits of each run, in ms, with their median beside it; `what` is told how many waits."""
    ordered = [sorted(seconds) for seconds in runs]
    return Figure(
        row,
        f"{what}, p99 of {min(map(len, ordered)):,}",
        "ms",
        [share(each, 0.99) * 1e3 for each in ordered],
        goal,
        notes=notes,
        beside={"median:": [share(each, 0.5) * 1e3 for each in ordered]},
    )


def machine() -> dict[str, object]:
    """Where and what was measured."""
    models = [line for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607  whichever git is there
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "cores": os.cpu_count(),
        "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }


def _lines(file: Path) -> Iterable[str]:
    return file.read_text().splitlines() if file.exists() else ()
