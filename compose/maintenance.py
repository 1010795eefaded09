"""The small commands on a stack: doctor, migrate, token, organization."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from compose import bootstrap, target
from compose.doctor import examine
from compose.errors import ComposeError
from compose.layout import Ports, State
from compose.secrets import load_or_make
from compose.services import Settings
from control_api.domain.texts import unseen_in

console = Console(highlight=False)

StateOption = Annotated[Path, typer.Option(help="The folder that holds all data of the stack.")]
DEFAULT_STATE = Path(".flightline")
_LONGEST_NAME = 255


def doctor(
    state: StateOption = DEFAULT_STATE,
    port_base: Annotated[
        int | None, typer.Option(min=1024, max=65000, help="As for `up`: which ports to look at.")
    ] = None,
) -> None:
    """Say what can be reached, what is missing and how to mend it; exit code 1 when something is broken."""
    ports = Ports() if port_base is None else Ports.from_base(port_base)
    findings = asyncio.run(examine(State(state.resolve()), ports, os.environ))
    for finding in findings:
        mark = "[green]ok    [/green]" if finding.ok else "[red]broken[/red]"
        console.print(f"{mark} {finding.what:<18} {escape(finding.detail)}", soft_wrap=True)
        if finding.mend:
            console.print(f"       {'':<18} → {escape(finding.mend)}", soft_wrap=True)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def migrate(state: StateOption = DEFAULT_STATE) -> None:
    """Create the topics and apply the migrations of Postgres and ClickHouse that are missing."""
    addresses = target.addresses(State(state.resolve()), os.environ)

    async def both() -> tuple[list[str], list[str]]:
        return await bootstrap.create_topics(addresses), await bootstrap.migrate(addresses)

    made, applied = asyncio.run(both())
    console.print(f"topics created: {', '.join(made) or 'none was missing'}")
    console.print(f"migrations applied: {', '.join(applied) or 'none was pending'}")


def token(state: StateOption = DEFAULT_STATE) -> None:
    """Print an admin's access token for the stack that runs on this state.

    With services that run elsewhere: set their FLIGHTLINE_JWT_SECRET, and the addresses of all engines.
    """
    folder = State(state.resolve())
    made = asyncio.run(bootstrap.bootstrap(_services(folder), folder.secrets))
    typer.echo(made.admin_token)


def organization(
    name: Annotated[str, typer.Argument(help="As people will read it; the admin can change it.")],
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Make another organization; print its id, its admin's access token, and a key of each kind for the door.

    They are shown this once: the token is for making users with passwords, or for an outside issuer's people
    (FLIGHTLINE_OIDC_…) the id. Addresses and secret as for `token`.
    """
    shown = name.strip()
    if not 0 < len(shown) <= _LONGEST_NAME or unseen_in(shown):
        raise ComposeError(f"the name must have 1 to {_LONGEST_NAME} characters, all of which can be seen")
    made = asyncio.run(bootstrap.new_organization(_services(State(state.resolve())), shown))
    typer.echo(msgspec.json.format(msgspec.json.encode(made)).decode())


def _services(folder: State) -> Settings:
    """What the services of this state have; of those elsewhere what the environment says."""
    kept = load_or_make(folder.secrets)
    theirs = os.environ.get("FLIGHTLINE_JWT_SECRET", "")
    if theirs and not folder.ready.exists():
        kept = msgspec.structs.replace(kept, jwt_secret=theirs)
    return Settings(
        state=folder,
        ports=Ports(),
        addresses=target.addresses(folder, os.environ),
        secrets=kept,
        ingest=1,
        aggregators=1,
    )
