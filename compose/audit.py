"""`flightline audit`: whether the audit log is what was written."""

import asyncio
import os

import asyncpg
import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from compose.addresses import POSTGRES, given
from compose.errors import ComposeError
from compose.layout import State
from compose.maintenance import DEFAULT_STATE, StateOption
from compose.ready import read
from control_api.domain.audit import START, breaks
from control_api.stores.audit_log import entry_from
from sql.load import postgres_queries

app = typer.Typer(no_args_is_help=True)
console = Console(highlight=False)

_audit = postgres_queries("control_audit")
_pages = postgres_queries("control_audit_pages")
_PAGE = 5_000
_CONNECT_SECONDS = 10


class Checked(msgspec.Struct, frozen=True):
    """One organization's log: how many rows are right from its beginning on, the hash of the last of them,
    and the first thing that is wrong."""

    organization_id: str
    name: str
    rows: int
    end: bytes
    wrong: str | None


@app.callback()
def audit() -> None:
    """The audit log: who did what, chained by hashes."""


@app.command()
def verify(state: StateOption = DEFAULT_STATE) -> None:
    """Walk the audit log of every organization; exit code 1 when a row was changed, removed or reordered.

    Prints the hash at the end of each log. Whoever keeps that elsewhere also finds a log that was written
    anew from its beginning.
    """
    dsn = given(os.environ).get(POSTGRES) or read(State(state.resolve())).postgres
    checked = asyncio.run(check_all(dsn))
    for one in checked:
        mark = "[red]broken[/red]" if one.wrong else "[green]ok    [/green]"
        told = one.wrong or f"{one.rows} rows, end {one.end.hex() or '-'}"
        console.print(f"{mark} {one.organization_id} {escape(one.name)}: {escape(told)}", soft_wrap=True)
    if any(one.wrong for one in checked):
        raise typer.Exit(1)


async def check_all(dsn: str) -> list[Checked]:
    """Every organization of a database. Raises ComposeError when it can't be read."""
    try:
        connection = await asyncpg.connect(dsn, timeout=_CONNECT_SECONDS)
        try:
            organizations = [row["id"] async for row in _pages.organizations(connection)]
            return [await _check(connection, str(identity)) for identity in organizations]
        finally:
            await connection.close()
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise ComposeError(f"the audit log can't be read: {error}") from error


async def _check(connection: asyncpg.Connection, organization_id: str) -> Checked:
    """As of one moment: what is written meanwhile changes nothing."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        head = await _pages.end_of_chain(connection, organization_id=organization_id)
        seq, end, wrong = 0, START, None
        while wrong is None:
            found = _audit.entries_after(connection, organization_id=organization_id, seq=seq, most=_PAGE)
            rows = [entry_from(row) async for row in found]
            if not rows:
                break
            wrong = next(breaks(rows, seq=seq, previous=end), None)
            if wrong is None:
                seq, end = rows[-1].seq, rows[-1].hash
        wrong = wrong or _differs(head["seq"], head["hash"], seq, end)
    return Checked(organization_id, head["name"], seq, end, wrong)


def _differs(head: int | None, kept: bytes | None, seq: int, end: bytes) -> str | None:
    """What is wrong between the last row and the end of the log as it is kept beside the rows."""
    if head is None:
        return f"there are {seq} rows, and their end is not kept: it was removed" if seq else None
    if head > seq:
        return f"after row {seq} there should be {head - seq} more: the end was cut off"
    if head < seq:
        return f"row {head + 1} comes after the end: it was added, or the end was set back"
    if kept != end:
        return f"row {seq} is not the end that was kept: one of them was changed"
    return None
