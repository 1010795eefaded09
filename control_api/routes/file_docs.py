"""What the OpenAPI document says of bodies that are files of campaigns."""

import csv
import io
from dataclasses import dataclass
from typing import Any

import msgspec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, Reference, RequestBody, Schema

from control_api.domain.cells import COLUMNS, row_of
from control_api.domain.job import FileFormat
from control_api.routes.answer_examples import ANSWERS
from control_api.routes.openapi import EXAMPLES, documented

MEDIA_TYPES = {
    FileFormat.CSV: "text/csv",
    FileFormat.NDJSON: "application/x-ndjson",
    FileFormat.JSON: "application/json",
}


def gives_file(parameters: type[msgspec.Struct]) -> type[Operation]:
    """An operation that answers with a file, in any format."""

    @dataclass
    class GivesFile(documented(parameters=parameters)):  # type: ignore[misc]  # made at run time
        def __post_init__(self) -> None:
            super().__post_init__()
            for answer in (self.responses or {}).values():
                if not isinstance(answer, Reference):
                    answer.description = "The campaigns."
                    answer.content = _content("CampaignView", ANSWERS["CampaignView"])
                    # The document leaves out what is null in examples; this one is added to it later.
                    answer.content[MEDIA_TYPES[FileFormat.JSON]].example = None

    return GivesFile


def takes_file(parameters: type[msgspec.Struct]) -> type[Operation]:
    """An operation that takes a file in any format."""

    @dataclass
    class TakesFile(documented(parameters=parameters)):  # type: ignore[misc]  # made at run time
        def __post_init__(self) -> None:
            super().__post_init__()
            content = _content("Replacement", EXAMPLES["create"])
            self.request_body = RequestBody(content=content, required=True)

    return TakesFile


def _content(schema: str, campaign: dict[str, Any]) -> dict[str, OpenAPIMediaType]:
    text = Schema(type=OpenAPIType.STRING)
    many = Schema(type=OpenAPIType.ARRAY, items=Reference(ref=f"#/components/schemas/{schema}"))
    line = msgspec.json.encode(campaign).decode()
    shown = {
        FileFormat.CSV: OpenAPIMediaType(schema=text, example=_table(line)),
        FileFormat.NDJSON: OpenAPIMediaType(schema=text, example=f"{line}\n"),
        FileFormat.JSON: OpenAPIMediaType(schema=many, example=[campaign]),
    }
    return {MEDIA_TYPES[file_format]: media for file_format, media in shown.items()}


def _table(line: str) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([COLUMNS, row_of(msgspec.json.decode(line))])
    return text.getvalue()
