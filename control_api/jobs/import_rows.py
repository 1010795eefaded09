"""Rows of a file of campaigns: CSV, NDJSON or one array of JSON, read one after the other.

Whatever the format, a row becomes the JSON that a client would send for it, and is read as such: every field
that is wrong is named the same way everywhere.
"""

import codecs
import csv
import io
from collections.abc import Iterator
from typing import IO

import msgspec

from control_api.domain.cells import COLUMNS, document_of
from control_api.domain.job import FileFormat
from control_api.domain.refusals import FieldError
from control_api.domain.submission import Replacement
from control_api.errors import MalformedRequest
from control_api.handlers.imports import ReadRow
from control_api.jobs.json_items import MAX_ITEM_BYTES, BadFile, array_items
from control_api.routes.reading import read_body

MAX_ROW_BYTES = MAX_ITEM_BYTES
_encoder = msgspec.json.Encoder(decimal_format="number")
csv.field_size_limit(MAX_ROW_BYTES)


class FileRow(msgspec.Struct, frozen=True):
    """A row as it stands in the file: JSON, or what is wrong with it. `line` counts from 1; in an array of
    JSON it is the item's place."""

    line: int
    body: bytes = b""
    problem: str | None = None


def rows_of(file: IO[bytes], file_format: FileFormat) -> Iterator[FileRow]:
    """All rows from the beginning; blank lines are none. Raises BadFile."""
    file.seek(0)
    if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
        file.seek(0)
    readers = {FileFormat.CSV: _csv, FileFormat.NDJSON: _ndjson, FileFormat.JSON: _json}
    yield from readers[file_format](file)


def read_row(number: int, row: FileRow) -> ReadRow:
    """A row with everything that is wrong with it."""
    if row.problem is not None:
        return ReadRow(number, row.line, None, (FieldError("", row.problem),))
    try:
        submission, errors = read_body(Replacement, row.body)
    except MalformedRequest as refused:
        return ReadRow(number, row.line, None, refused.errors or (FieldError("", str(refused)),))
    return ReadRow(number, row.line, submission, errors)


def _ndjson(file: IO[bytes]) -> Iterator[FileRow]:
    line = 0
    while text := file.readline(MAX_ROW_BYTES + 1):
        line += 1
        if len(text) > MAX_ROW_BYTES:
            while text and not text.endswith(b"\n"):
                text = file.readline(MAX_ROW_BYTES)
            yield FileRow(line, problem=f"a row has at most {MAX_ROW_BYTES} bytes")
        elif text.strip():
            yield FileRow(line, text)


def _csv(file: IO[bytes]) -> Iterator[FileRow]:
    # Line ends are left as they are: they may stand in a text.
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    lines = _Lines(text)
    reader = csv.reader(lines, strict=True)
    try:
        columns = _columns(next(reader, []))
        line = lines.next_row()
        for cells in reader:
            if cells:
                yield _csv_row(line, columns, cells)
            line = lines.next_row()
    except csv.Error as error:
        raise BadFile(f"line {reader.line_num} is not CSV that can be read: {error}") from None
    finally:
        text.detach()  # or it would close the file


class _Lines(Iterator[str]):
    """The lines of a text. Those of one row are no longer together than a row may be: the reader would make
    millions of cells of it before anybody could count them. Raises BadFile."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._number = 0
        self._left = MAX_ROW_BYTES

    def __next__(self) -> str:
        line = self._text.readline(self._left + 1)
        if not line:
            raise StopIteration
        self._number += 1
        self._left -= len(line)
        if self._left < 0:
            raise BadFile(f"line {self._number}: a row has at most {MAX_ROW_BYTES} bytes")
        return line

    def next_row(self) -> int:
        """Another row begins; returns the number of its first line."""
        self._left = MAX_ROW_BYTES
        return self._number + 1


def _columns(header: list[str]) -> list[str]:
    columns = [name.strip() for name in header]
    if not columns:
        raise BadFile("the first line must name the columns")
    unknown = [name[:80] for name in columns if name not in COLUMNS]
    if unknown:
        raise BadFile(f"unknown columns: {', '.join(unknown[:10])}")
    if len(set(columns)) < len(columns):
        raise BadFile("a column is named twice")
    return columns


def _csv_row(line: int, columns: list[str], cells: list[str]) -> FileRow:
    if len(cells) != len(columns):
        return FileRow(line, problem=f"has {len(cells)} cells; the first line names {len(columns)} columns")
    body = _encoder.encode(document_of(columns, cells))
    if len(body) > MAX_ROW_BYTES:
        return FileRow(line, problem=f"a row has at most {MAX_ROW_BYTES} bytes")
    return FileRow(line, body)


def _json(file: IO[bytes]) -> Iterator[FileRow]:
    for place, item in enumerate(array_items(file), 1):
        yield FileRow(place, item)
