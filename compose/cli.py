"""`flightline`: the command line. Commands of several steps live in files of their own."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from compose import audit, maintenance
from compose.demo.command import command as demo
from compose.errors import ComposeError
from compose.layout import MAX_AGGREGATORS, Ports, require_folder
from compose.log import configure
from compose.maintenance import DEFAULT_STATE, StateOption
from compose.reconcile.command import command as reconcile
from compose.replay.command import command as replay
from compose.stack import Options, run

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console(stderr=True, highlight=False)


@app.callback()
def flightline() -> None:
    """Flightline: every beacon counted exactly once, no campaign billed above its budget."""


@app.command()
def up(
    state: StateOption = DEFAULT_STATE,
    ready_file: Annotated[
        Path | None, typer.Option(help="Written as JSON once all is up: addresses, keys, process ids.")
    ] = None,
    port_base: Annotated[
        int | None,
        typer.Option(
            min=1024,
            max=65000,
            help="Take all ports from here: ingest N, control API N+1, gRPC N+2, ClickHouse N+3, "
            "Postgres N+4, Kafka N+5 and N+6, aggregators' metrics from N+10. "
            "Without it: 8000, 8080, 9090, 18123, 15432, 19092, 19093, from 18200.",
        ),
    ] = None,
    ingest: Annotated[int, typer.Option(min=1, max=16, help="How many doors.")] = 1,
    aggregators: Annotated[int, typer.Option(min=1, max=MAX_AGGREGATORS, help="How many aggregators.")] = 1,
    control_apis: Annotated[
        int, typer.Option(min=1, max=16, help="How many processes of the control API.")
    ] = 1,
    only_engines: Annotated[
        bool, typer.Option("--only-engines", help="Kafka, Postgres and ClickHouse, without the services.")
    ] = False,
) -> None:
    """Start the whole stack and keep it running until Ctrl-C; what dies is started again.

    FLIGHTLINE_KAFKA, FLIGHTLINE_POSTGRES or FLIGHTLINE_CLICKHOUSE in the environment: that engine is used
    where it is instead of an embedded one.
    """
    require_folder(state)
    options = Options(
        state=state,
        ready_file=ready_file,
        ports=Ports() if port_base is None else Ports.from_base(port_base),
        ingest=ingest,
        aggregators=aggregators,
        control_apis=control_apis,
        only_engines=only_engines,
    )
    asyncio.run(run(options, os.environ, _say))


app.command()(maintenance.doctor)
app.command()(maintenance.migrate)
app.command()(maintenance.token)
app.command()(maintenance.organization)
app.add_typer(audit.app, name="audit")
app.command("demo")(demo)
app.command("replay")(replay)
app.command("reconcile")(reconcile)


def _say(line: str) -> None:
    console.print(line, soft_wrap=True, markup=False)


def main() -> None:
    """The entry point: an expected error is one sentence and exit code 1."""
    configure()
    try:
        app()
    except ComposeError as error:
        # What went wrong is not markup, though it may have brackets.
        console.print("[red]error:[/red]", escape(str(error)), soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
