"""Publishes the records as JSON Schema and the topics as AsyncAPI 3: `python -m schemas.documents [--check]`.

The documents are made from the Structs and committed, so that a reader in any language has them; `--check`
exits with 1 when they are stale.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import msgspec

from schemas import access_keys, budget_gates, campaign_activity, campaign_state, dead_letters, domain_events
from schemas.events import SCHEMA_HEADER, SCHEMA_NAME, TrackingEvent
from schemas.topics import TRACKING_EVENTS

FOLDER = Path(__file__).parent / "documents"
_JSON_SCHEMA = "https://json-schema.org/draft/2020-12/schema"
_DEFINITIONS = "#/$defs/{name}"


class Channel(msgspec.Struct, frozen=True):
    """A topic, the record it carries, and how its key is made."""

    topic: str
    record: type[msgspec.Struct]
    key: str
    summary: str
    lines: bool = False
    """Whether a value packs several records, one JSON object a line."""


CHANNELS = (
    Channel(
        TRACKING_EVENTS,
        TrackingEvent,
        "none: the partition is a hash of organization and event id",
        f"Events as the door stamped them, up to 500 a record; header `{SCHEMA_HEADER}`: {SCHEMA_NAME}.",
        lines=True,
    ),
    Channel(
        campaign_state.TOPIC,
        campaign_state.CampaignState,
        "campaign id",
        "Snapshots of campaigns; compacted.",
    ),
    Channel(access_keys.TOPIC, access_keys.AccessKey, "SHA-256 of the key", "Access keys; compacted."),
    Channel(
        budget_gates.TOPIC, budget_gates.BudgetGate, "campaign id", "Thresholds that were crossed; compacted."
    ),
    Channel(
        campaign_activity.TOPIC,
        campaign_activity.BatchActivity,
        "none: the partition is that of the events",
        "What each billed batch added to each campaign.",
    ),
    Channel(
        domain_events.TOPIC,
        domain_events.DomainEvent,
        "campaign id",
        "What happened to campaigns: CloudEvents.",
    ),
    Channel(dead_letters.TOPIC, dead_letters.DeadLetter, "none", "What could not be decoded, and why."),
)


def documents() -> dict[str, bytes]:
    """Each document by its file name."""
    schemas = {f"{channel.record.__name__}.schema.json": json_schema(channel.record) for channel in CHANNELS}
    return {name: _encode(document) for name, document in {**schemas, "asyncapi.json": asyncapi()}.items()}


def json_schema(record: type[msgspec.Struct]) -> dict[str, Any]:
    """The record's schema, complete in itself. Readers take further fields: a later version may add some."""
    _, definitions = msgspec.json.schema_components([_describable(record)], ref_template=_DEFINITIONS)
    name = record.__name__
    own = definitions.pop(name)
    extra = {"$defs": definitions} if definitions else {}
    return {"$schema": _JSON_SCHEMA, "title": name, **{k: v for k, v in own.items() if k != "title"}, **extra}


def _describable(record: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The record with raw JSON described as the object it is: msgspec has no schema for a default of it."""
    fields = msgspec.structs.fields(record)
    if not any(field.type is msgspec.Raw for field in fields):
        return record
    return msgspec.defstruct(
        record.__name__,
        [
            (field.name, dict[str, Any] | msgspec.UnsetType, msgspec.UNSET)
            if field.type is msgspec.Raw
            else (field.name, field.type, msgspec.field(default=field.default))
            for field in fields
        ],
        rename={field.name: field.encode_name for field in fields},
        namespace={"__doc__": record.__doc__},
    )


def asyncapi() -> dict[str, Any]:
    """All topics as one AsyncAPI 3 document; payloads refer to the schemas beside it."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Flightline",
            "version": "1.0.0",
            "description": "The topics between the door, the aggregator and the control API.",
        },
        "defaultContentType": "application/json",
        "channels": {channel.topic: _channel(channel) for channel in CHANNELS},
        "operations": {f"receive-{channel.topic}": _operation(channel) for channel in CHANNELS},
        "components": {"messages": {channel.record.__name__: _message(channel) for channel in CHANNELS}},
    }


def _channel(channel: Channel) -> dict[str, Any]:
    name = channel.record.__name__
    return {
        "address": channel.topic,
        "description": channel.summary,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
    }


def _operation(channel: Channel) -> dict[str, Any]:
    return {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{channel.topic}"},
        "messages": [{"$ref": f"#/channels/{channel.topic}/messages/{channel.record.__name__}"}],
    }


def _message(channel: Channel) -> dict[str, Any]:
    return {
        "name": channel.record.__name__,
        "summary": channel.summary,
        "contentType": "application/x-ndjson" if channel.lines else "application/json",
        "payload": {"$ref": f"./{channel.record.__name__}.schema.json"},
        "bindings": {"kafka": {"key": {"type": "string", "description": channel.key}}},
    }


def _encode(document: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document, order="sorted")) + b"\n"


def write(folder: Path = FOLDER) -> None:
    """Writes all documents."""
    folder.mkdir(exist_ok=True)
    for name, content in documents().items():
        (folder / name).write_bytes(content)


def stale(folder: Path = FOLDER) -> list[str]:
    """Names of documents that are not what the Structs say now; also those that nothing makes any more."""
    made = documents()
    found = {file.name: file.read_bytes() for file in folder.glob("*.json")}
    return sorted(name for name in {*made, *found} if made.get(name) != found.get(name))


def main(arguments: list[str]) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m schemas.documents", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when documents are stale")
    if not parser.parse_args(arguments).check:
        write()
        return 0
    if names := stale():
        sys.stderr.write(f"stale: {', '.join(names)}; run `python -m schemas.documents`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
