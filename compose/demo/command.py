"""The command `flightline demo`."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from compose.demo.demo import DemoOptions, run
from compose.layout import Ports, require_folder

_STATE = Path(".flightline") / "demo"


def command(
    once: Annotated[bool, typer.Option("--once", help="End when the story is told.")] = False,
    state: Annotated[Path, typer.Option(help="The folder that holds all data of the demo's stack.")] = _STATE,
    port_base: Annotated[
        int | None, typer.Option(min=1024, max=65000, help="As for `up`: take all ports from here.")
    ] = None,
) -> None:
    """Show campaigns under simulated traffic: one passes 90 % of its budget, is resumed, and passes 100 %.

    Exit code 1 when what is billed is not the budget to the micro, or an event was not counted exactly once.
    """
    require_folder(state)
    ports = Ports() if port_base is None else Ports.from_base(port_base)
    asyncio.run(run(DemoOptions(state=state, ports=ports, once=once), Console(highlight=False)))
