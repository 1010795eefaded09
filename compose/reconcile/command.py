"""The command `flightline reconcile`."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import asyncpg
import typer
from aiokafka.errors import KafkaError
from clickhouse_connect.driver.exceptions import ClickHouseError
from rich.console import Console

from compose.errors import ComposeError
from compose.reconcile.reconcile import Reconciliation
from compose.reconcile.report import as_json, show
from compose.replay.running import DEFAULT_STATE, read_ready

_WIDTH = 200
"""Of what is written to a file or a pipe: the table is cut nowhere."""


def command(
    promises: Annotated[
        list[Path] | None,
        typer.Option(
            help="What `flightline replay --promises` wrote. Name every file of what was sent to its "
            "campaigns: a counted event of theirs that none promises is a difference. Repeatable."
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0, help="Seconds to wait until the log is billed and stored.")
    ] = 60.0,
    as_json_: Annotated[bool, typer.Option("--json", help="Print JSON in place of the table.")] = False,
    ready_file: Annotated[Path | None, typer.Option(help="The ready file of the running stack.")] = None,
    state: Annotated[Path, typer.Option(help="The folder of the running stack.")] = DEFAULT_STATE,
) -> None:
    """Compare what was promised, logged, billed and stored, per campaign and event by event.

    Reads all of the log, beside the ledger's records and ClickHouse's rows at the same coordinates, and the
    projections beside the rows. Exit code 1 on any difference, with the first coordinates that differ.
    """
    stack = read_ready(ready_file, state)
    progress = Console(stderr=True, highlight=False)
    reconciliation = Reconciliation(stack, promises or [], timeout, progress.print)
    try:
        outcome = asyncio.run(reconciliation.run())
    except (OSError, asyncpg.PostgresError, KafkaError, ClickHouseError) as error:
        raise ComposeError(f"an engine can't be read: {error}") from error
    if as_json_:
        sys.stdout.write(as_json(outcome).decode() + "\n")
    else:
        console = Console()
        show(outcome, console if console.is_terminal else Console(width=_WIDTH))
    if outcome.differences:
        raise typer.Exit(1)
