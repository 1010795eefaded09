"""`python -m tests.bench`: measures all, prints one table, as `make bench` and `make bench-full` do.

With names of rows, only those: door, settling, chain, queries, footprint, takeover, scaling, control_api. A
row that fails, or whose counts differ from what was promised, stands in the table as void, and the command
ends with 1.
"""

import argparse
import gc
import sys
import traceback
from pathlib import Path

import uvloop

from tests.bench import chain, control_api, door, footprint, queries, scaling, settling, takeover
from tests.bench.figures import Figure, Report
from tests.bench.form import FULL, SHORT

_ROWS = {
    "door": door.rows,
    "settling": settling.rows,
    "chain": chain.rows,
    "queries": queries.rows,
    "footprint": footprint.rows,
    "takeover": takeover.rows,
    "scaling": scaling.rows,
    "control_api": control_api.rows,
}


async def run(report: Report, names: list[str], *, full: bool, json: Path) -> bool:
    """Row by row; what was found is in the file after each. Whether nothing was void."""
    all_well = True
    for name in names:
        try:
            await _ROWS[name](report, FULL if full else SHORT)
        except Exception as error:  # noqa: BLE001  the other rows are worth having
            traceback.print_exc()
            report.add(Figure("—", f"VOID: {name}", "", [], notes=f"{type(error).__name__}: {error}"))
            all_well = False
        finally:
            report.write(json)
    return all_well


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", choices=[[], *_ROWS])
    parser.add_argument("--full", action="store_true", help="the long form: hours")
    parser.add_argument("--json", type=Path, default=Path(".flightline/bench.json"))
    options = parser.parse_args()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)  # the client is measured with
    report = Report()
    all_well = uvloop.run(run(report, options.rows or list(_ROWS), full=options.full, json=options.json))
    print(f"\n{report.table()}")  # noqa: T201  its output
    sys.exit(0 if all_well else 1)


if __name__ == "__main__":
    main()
