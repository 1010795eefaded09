"""The table of all faults: a row for each test, appended to the file that FLIGHTLINE_FAULTS_TABLE names."""

import fcntl
import os
from pathlib import Path

import msgspec

from tests.faults.judge import Verdict

_COLUMNS = (
    "fault",
    "seed",
    "events promised",
    "no answer",
    "counted",
    "lost",
    "doubled",
    "billed over budget",
    "seconds to recover",
)


class Row(msgspec.Struct, frozen=True):
    """One test. `recoveries`: seconds, one for each time that something was broken."""

    fault: str
    seed: int
    verdict: Verdict
    recoveries: tuple[float, ...]

    def cells(self) -> tuple[str, ...]:
        verdict = self.verdict
        counts = (verdict.promised, verdict.unknown, verdict.counted, verdict.lost, verdict.doubled)
        over = f"{verdict.over_budget / 1_000_000:.6f}" if verdict.over_budget else "0"
        return (self.fault, str(self.seed), *(f"{count:,}" for count in counts), over, self._seconds())

    def _seconds(self) -> str:
        if not self.recoveries:
            return "none"
        worst = max(self.recoveries)
        if len(self.recoveries) == 1:
            return f"{worst:.1f}"
        middle = sorted(self.recoveries)[len(self.recoveries) // 2]
        return f"{worst:.1f} at worst, {middle:.1f} in the middle of {len(self.recoveries)}"


def publish(row: Row) -> None:
    """Prints the row, and appends it to the file if one is named."""
    line = f"| {' | '.join(row.cells())} |\n"
    print(line, end="")  # noqa: T201  what the suite is for
    if not (name := os.environ.get("FLIGHTLINE_FAULTS_TABLE")):
        return
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not file.tell():
            file.write(f"| {' | '.join(_COLUMNS)} |\n|{'---|' * 2}{'---:|' * (len(_COLUMNS) - 3)}---|\n")
        file.write(line)
