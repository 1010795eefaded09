"""The command `flightline replay`: options in, summary and exit code out."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from compose.replay.door import Door
from compose.replay.errors import InvalidOption
from compose.replay.gates import OnClosed
from compose.replay.options import PlanOptions, build_plan
from compose.replay.replay import Replay
from compose.replay.running import DEFAULT_STATE, read_ready
from compose.replay.sender import Options, Stopped
from compose.replay.source import Format, Source
from compose.replay.tally import show
from schemas.addresses import BadAddress, http_url
from schemas.reasons import EventType

_BATCH = 500
_LARGEST_BATCH = 1_000
_REQUESTS_PER_SECOND = 20
"""With a rate, batches are so small that events leave evenly."""

_OPEN_LOOP_REQUESTS = 64

_Texts = list[str] | None


def command(  # noqa: PLR0917  options of a command line, given by name
    file: Annotated[Path, typer.Argument(help="CSV, NDJSON or a combined access log; gzipped or plain.")],
    maps: Annotated[
        _Texts,
        typer.Option(
            "--map",
            help="FIELD=COLUMN, FIELD=COLUMN/NUMBER or FIELD=COLUMN*NUMBER. COLUMN may be a dotted path in "
            "NDJSON, FIELD may be data.KEY. Repeatable.",
        ),
    ] = None,
    constants: Annotated[
        _Texts, typer.Option("--set", help="FIELD=VALUE, the same in every event. Repeatable.")
    ] = None,
    type_: Annotated[
        EventType, typer.Option("--type", help="The type of the events, unless it is mapped.")
    ] = EventType.IMPRESSION,
    also: Annotated[
        _Texts,
        typer.Option(
            help="TYPE:COLUMN=VALUE, a second event for each row whose column has that value, without cost "
            "and revenue. Repeatable."
        ),
    ] = None,
    campaign: Annotated[
        _Texts,
        typer.Option(help="The campaign's id; or VALUE=ID, with --map campaignId=COLUMN. Repeatable."),
    ] = None,
    campaign_map: Annotated[
        Path | None, typer.Option(help="A JSON object: from values of the mapped column to campaign ids.")
    ] = None,
    event_id: Annotated[
        str | None,
        typer.Option(
            help="The column that identifies an event. Without it ids are derived from campaign, file, row "
            "and type: a second replay within a day counts nothing twice."
        ),
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Leave out the times of the file.")] = False,
    format_: Annotated[
        Format | None, typer.Option("--format", help="The file's format; otherwise told by its content.")
    ] = None,
    rate: Annotated[float | None, typer.Option(min=0.001, help="Events per second, an open loop.")] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, max=_LARGEST_BATCH, help=f"Events per request ({_BATCH}; fewer with --rate)."),
    ] = None,
    in_flight: Annotated[
        int | None,
        typer.Option(
            min=1, max=256, help=f"Requests at the same time (8; {_OPEN_LOOP_REQUESTS} with --rate)."
        ),
    ] = None,
    on_closed: Annotated[
        OnClosed,
        typer.Option(
            help="A campaign's further events while the door says not to serve it: send them all the same "
            "(they count, unbilled), wait until it opens, skip them, or stop."
        ),
    ] = OnClosed.SEND,
    patience: Annotated[float, typer.Option(min=1, help="Seconds to try on while the door is away.")] = 600.0,
    promises: Annotated[
        Path | None, typer.Option(help="Appends each answered event, for `flightline reconcile --promises`.")
    ] = None,
    allow_rejected: Annotated[
        bool, typer.Option("--allow-rejected", help="Exit 0 although the door rejected events.")
    ] = False,
    url: Annotated[
        str | None, typer.Option(help="The door's address, in place of the running stack's.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="The key that goes with --url.")] = None,
    ready_file: Annotated[Path | None, typer.Option(help="The ready file of the running stack.")] = None,
    state: Annotated[Path, typer.Option(help="The folder of the running stack.")] = DEFAULT_STATE,
) -> None:
    """Send a file of events through the door, each exactly once, also when it is replayed within a day.

    Times more than 7 days back need a key with the scope events:backfill (the stack's server key has it);
    such events count in reports and are not billed. Rows that don't parse are reported by line and skipped.
    While --on-closed waits, a campaign that can't open again (its budget is used up, its end has come) is not
    waited for: its events are sent and counted unbilled. Exit code 1 when the door rejected events.
    """
    source = Source(file, format_)
    what = PlanOptions(
        maps=maps or (),
        constants=constants or (),
        type=type_,
        also=also or (),
        campaigns=campaign or (),
        campaign_map=campaign_map,
        event_id=event_id,
        now=now,
    )
    plan = build_plan(what, source.sha256, source.format, source.header)
    options = Options(
        on_closed=on_closed,
        rate=rate,
        batch=batch or _batch_for(rate),
        in_flight=in_flight or (Options().in_flight if rate is None else _OPEN_LOOP_REQUESTS),
        patience_s=patience,
    )
    door = Door(*_address(url, key, ready_file, state), connections=options.in_flight + 1)
    _run(Replay(source, plan, options, promises, Console(stderr=True)), door, allow_rejected=allow_rejected)


def _run(replay: Replay, door: Door, *, allow_rejected: bool) -> None:
    console = Console(highlight=False)
    try:
        asyncio.run(replay.run(door))
    except Stopped as stop:
        console.print(f"stopped: {stop}")
    finally:
        show(replay.tally, console)
    if replay.tally.rejected and not allow_rejected:
        raise typer.Exit(1)


def _batch_for(rate: float | None) -> int:
    return _BATCH if rate is None else max(1, min(_BATCH, round(rate / _REQUESTS_PER_SECOND)))


def _address(url: str | None, key: str | None, ready_file: Path | None, state: Path) -> tuple[str, str]:
    """The door and the key. The server key of a stack may state costs and times long past."""
    if url is not None:
        if key is None:
            raise InvalidOption("--url needs the --key that the door knows.")
        try:
            return http_url("--url", url), key
        except BadAddress as error:
            raise InvalidOption(str(error)) from None
    ready = read_ready(ready_file, state)
    return ready.ingest, key or ready.server_key
