"""Rows of a file, streamed: CSV, NDJSON or an access log, plain or gzipped; both are told by the content."""

import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from compose.replay import access_log
from compose.replay.errors import BadRow, UnreadableFile

_GZIP_MAGIC = b"\x1f\x8b"
_LONGEST_LINE = 1024 * 1024
"""The door takes events up to 16 KiB; a longer line than this is no row of anything."""


class Format(StrEnum):
    """What a file can be."""

    CSV = "csv"
    NDJSON = "ndjson"
    LOG = "log"


class Row(msgspec.Struct, frozen=True):
    """A row: its number among the rows (from 1, those that don't parse count too), the line it ends on, and
    its columns; or, in their place, why it is no row."""

    number: int
    line: int
    columns: dict[str, Any] | None
    problem: str = ""


class Source:
    """A file to replay. Rows are read as they are asked for; nothing of the file is kept.

    Raises UnreadableFile when it can't be opened, or in the middle when it is cut off.
    """

    def __init__(self, path: Path, format_: Format | None = None) -> None:
        self.path = path
        try:
            self._raw: BinaryIO = path.open("rb")
            self.size = path.stat().st_size
            self.sha256 = _sha256(self._raw)
        except OSError as error:
            raise UnreadableFile(f"{path} can't be read: {error.strerror}.") from error
        self.format = format_ or self._detect()

    @property
    def position(self) -> int:
        """How many bytes of the file (as it lies on the disk) have been read."""
        return self._raw.tell()

    def close(self) -> None:
        self._raw.close()

    def rows(self) -> Iterator[Row]:
        """All rows from the first."""
        content = self._content()
        read = {Format.CSV: _csv_rows, Format.NDJSON: _ndjson_rows, Format.LOG: self._log_rows}[self.format]
        try:
            yield from read(content)
        except (EOFError, OSError, zlib.error) as error:
            raise UnreadableFile(f"{self.path} is cut off or damaged: {error}.") from error

    def _log_rows(self, content: BinaryIO) -> Iterator[Row]:
        salt = bytes.fromhex(self.sha256)
        for number, line in enumerate(_lines(content), 1):
            try:
                yield Row(number, number, access_log.parse_line(line.decode().rstrip("\r\n"), salt))
            except (BadRow, UnicodeDecodeError) as error:
                yield Row(number, number, None, str(error))

    def _content(self) -> BinaryIO:
        self._raw.seek(0)
        magic = self._raw.read(len(_GZIP_MAGIC))
        self._raw.seek(0)
        # GzipFile is a BinaryIO in all but its declaration.
        return cast("BinaryIO", gzip.GzipFile(fileobj=self._raw)) if magic == _GZIP_MAGIC else self._raw

    def _detect(self) -> Format:
        try:
            first = self._content().readline(_LONGEST_LINE).decode(errors="replace").strip("\ufeff\r\n ")
        except (EOFError, OSError, zlib.error) as error:
            raise UnreadableFile(f"{self.path} is cut off or damaged: {error}.") from error
        if not first:
            raise UnreadableFile(f"{self.path} is empty or begins with an empty line.")
        if first.startswith("{"):
            return Format.NDJSON
        return Format.LOG if access_log.looks_like(first) else Format.CSV


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_LONGEST_LINE):
        digest.update(chunk)
    return digest.hexdigest()


def _lines(content: BinaryIO) -> Iterator[bytes]:
    while line := content.readline(_LONGEST_LINE):
        yield line


def _csv_rows(content: BinaryIO) -> Iterator[Row]:
    # Bytes that are not UTF-8 become surrogates, which no JSON can carry: such a row is refused later, alone.
    text = io.TextIOWrapper(content, encoding="utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(text)
    header = next(reader, [])
    number = 0
    while True:
        try:
            values = next(reader, None)
        except csv.Error as error:
            number += 1
            yield Row(number, reader.line_num, None, str(error))
            continue
        if values is None:
            text.detach()
            return
        if not values:
            continue
        number += 1
        if len(values) == len(header):
            yield Row(number, reader.line_num, dict(zip(header, values, strict=True)))
        else:
            problem = f"{len(values)} columns, the header has {len(header)}"
            yield Row(number, reader.line_num, None, problem)


_json = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)


def _ndjson_rows(content: BinaryIO) -> Iterator[Row]:
    for number, line in enumerate(_lines(content), 1):
        if not line.strip():
            continue
        try:
            yield Row(number, number, _json.decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            yield Row(number, number, None, str(error))
