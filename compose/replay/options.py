"""From the options of the command line to a plan: everything is checked before the first event is sent."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from compose.replay import access_log
from compose.replay.errors import InvalidOption
from compose.replay.mapping import TIME_FIELD, Column, parse_condition, parse_constant, parse_mapping
from compose.replay.plan import Plan
from compose.replay.source import Format
from schemas.ids import canonical_uuid
from schemas.reasons import EventType


class PlanOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options that say what an event is made of, as they were typed."""

    maps: Sequence[str] = ()
    constants: Sequence[str] = ()
    type: EventType = EventType.IMPRESSION
    also: Sequence[str] = ()
    campaigns: Sequence[str] = ()
    campaign_map: Path | None = None
    event_id: str | None = None
    now: bool = False


def build_plan(
    options: PlanOptions, file_sha256: str, file_format: Format, header: Sequence[str] | None = None
) -> Plan:
    """The plan for a file, whose columns are `header` where that is known before its rows.

    InvalidOption says which option is wrong, and how it is written.
    """
    columns: dict[str, Column] = {}
    if file_format is Format.LOG:
        columns |= {field: Column(name) for field, name in access_log.COLUMNS.items()}
    columns |= dict(map(parse_mapping, options.maps))
    if options.event_id is not None:
        columns["eventId"] = Column(options.event_id)
    if options.now:
        columns.pop(TIME_FIELD, None)
    also = tuple(map(parse_condition, options.also))
    if header is not None:
        _require_columns(
            [*(column.name for column in columns.values()), *(each.column for each in also)], header
        )
    table = {**_read_table(options.campaign_map), **dict(map(_pair, _pairs(options.campaigns)))}
    single = _single(options.campaigns)
    if "campaignId" in columns:
        if single is not None:
            raise InvalidOption(
                f"--campaign {single}: with --map campaignId=… write VALUE=ID, a value of that column"
            )
    elif single is None:
        raise InvalidOption("which campaign? Give --campaign ID, or --map campaignId=COLUMN.")
    return Plan(
        file_sha256=file_sha256,
        type=options.type,
        columns=columns,
        constants=dict(map(parse_constant, options.constants)),
        also=also,
        campaign=single,
        campaigns=table,
    )


def _require_columns(names: Sequence[str], header: Sequence[str]) -> None:
    """A column that is not there would be read as empty: events without a cost, clicks never sent."""
    for name in names:
        if name not in header:
            raise InvalidOption(f"the file has no column {name!r}; it has {', '.join(header)[:500]}.")
        if header.count(name) > 1:
            raise InvalidOption(f"the file has several columns {name!r}.")


def _pairs(campaigns: Sequence[str]) -> list[str]:
    return [text for text in campaigns if "=" in text]


def _single(campaigns: Sequence[str]) -> str | None:
    ids = [text for text in campaigns if "=" not in text]
    if len(ids) > 1:
        raise InvalidOption("--campaign: one id for all rows, or VALUE=ID for each value of a mapped column")
    return _campaign_id(ids[0], "--campaign") if ids else None


def _pair(text: str) -> tuple[str, str]:
    value, _, campaign_id = text.rpartition("=")
    return value, _campaign_id(campaign_id, f"--campaign {text}")


def _read_table(file: Path | None) -> dict[str, str]:
    if file is None:
        return {}
    try:
        table = msgspec.json.decode(file.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidOption(f"--campaign-map {file}: {error}") from error
    return {value: _campaign_id(text, f"--campaign-map {file}") for value, text in table.items()}


def _campaign_id(text: str, option: str) -> str:
    found = canonical_uuid(text)
    if found is None:
        raise InvalidOption(f"{option}: {text!r} is not the id of a campaign")
    return found
