"""Records written by the first version are read by today's code, and by whoever reads with the documents.

The samples are frozen: a change that needs one of them changed breaks the readers of what lies in the log.
Fields may only be added, with a default; values of a closed set may only be added.
"""

import enum
import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from schemas import access_keys, domain_events, reasons
from schemas.documents import CHANNELS, FOLDER, documents, main, stale, write

SAMPLES = Path(__file__).parent / "samples"
RECORDS = {channel.record.__name__: channel.record for channel in CHANNELS}


def sample(record: str, form: str) -> Any:
    return json.loads((SAMPLES / f"{record}.v1.{form}.json").read_bytes())


def broken(record: type[msgspec.Struct], required: Any, full: Any) -> str:
    """Why `record` can't take the place of the one that wrote the samples; empty when it can."""
    for content in (required, full):
        try:
            decoded = msgspec.json.decode(json.dumps(content), type=record)
        except msgspec.ValidationError as error:
            return str(error)
        if lost := missing(content, json.loads(msgspec.json.encode(decoded))):
            return f"{lost} is read no more"
    return ""


def missing(old: Any, new: Any, path: str = "$") -> str:
    """The path of the first value of `old` that `new` lacks or has otherwise."""
    if isinstance(old, dict) and isinstance(new, dict):
        # What was left out stands for its default: an empty value may not come back.
        found = (missing(old[key], new.get(key), f"{path}.{key}") for key in old)
        return next(filter(None, found), "")
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        found = (missing(o, n, f"{path}[{i}]") for i, (o, n) in enumerate(zip(old, new, strict=True)))
        return next(filter(None, found), "")
    return "" if old == new else path


@pytest.mark.parametrize("name", RECORDS)
def test_todays_record_reads_what_the_first_version_wrote(name: str) -> None:
    assert broken(RECORDS[name], sample(name, "required"), sample(name, "full")) == ""


@pytest.mark.parametrize("name", RECORDS)
def test_the_full_sample_fills_every_field_that_the_first_version_had(name: str) -> None:
    fields = {field.encode_name for field in msgspec.structs.fields(RECORDS[name])}
    assert set(sample(name, "full")) <= fields


def test_no_value_of_a_closed_set_was_taken_away() -> None:
    kept = json.loads((SAMPLES / "values.v1.json").read_bytes())
    now = {
        name: {member.value for member in found}
        for module in (reasons, access_keys, domain_events)
        for name, found in vars(module).items()
        if isinstance(found, type) and issubclass(found, enum.StrEnum)
    }
    for name, values in kept.items():
        assert set(values) <= now[name], name


class Old(msgspec.Struct, rename="camel"):
    one: int
    two: str = ""


class NewRequired(msgspec.Struct, rename="camel"):
    one: int
    three: int
    two: str = ""


class Renamed(msgspec.Struct, rename="camel"):
    one: int
    second: str = ""


class Narrowed(msgspec.Struct, rename="camel"):
    one: bool
    two: str = ""


class Widened(msgspec.Struct, rename="camel"):
    one: int
    two: str = ""
    three: int = 0


@pytest.mark.parametrize(
    ("record", "breaks"),
    [(Old, False), (Widened, False), (NewRequired, True), (Renamed, True), (Narrowed, True)],
)
def test_the_rule_finds_what_breaks_a_reader(record: type[msgspec.Struct], breaks: bool) -> None:
    assert bool(broken(record, {"one": 1}, {"one": 1, "two": "b"})) is breaks


@pytest.mark.parametrize("name", RECORDS)
def test_samples_are_valid_by_the_published_schema(name: str) -> None:
    schema = json.loads((FOLDER / f"{name}.schema.json").read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    for form in ("required", "full"):
        jsonschema.validate(sample(name, form), schema, cls=jsonschema.Draft202012Validator)


def test_the_published_documents_are_those_of_todays_records() -> None:
    assert stale() == [], "run `python -m schemas.documents`"


def test_a_stale_document_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    assert stale(tmp_path) == []
    (tmp_path / "AccessKey.schema.json").write_text("{}")
    (tmp_path / "Gone.schema.json").write_text("{}")
    assert stale(tmp_path) == ["AccessKey.schema.json", "Gone.schema.json"]
    assert main(["--check"]) == 0


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = json.loads(documents()["asyncapi.json"])

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if "$ref" in node else []
            return own + [found for child in node.values() for found in references(child)]
        return [found for child in node for found in references(child)] if isinstance(node, list) else []

    for reference in references(document):
        if reference.startswith("./"):
            assert (FOLDER / reference[2:]).exists(), reference
            continue
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
