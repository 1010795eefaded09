"""Rows of a file, streamed: CSV, NDJSON or an access log, plain or gzipped; both are told by the content."""

import csv
import gzip
import hashlib
import io
import re
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
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f]")
"""Control characters: another compression, a spreadsheet. Its bytes would be sent as rows and counted."""

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

    @property
    def header(self) -> list[str] | None:
        """The names of a CSV's columns; None in other formats, whose rows have their own."""
        if self.format is not Format.CSV:
            return None
        text = _text(self._content())
        try:
            return next(csv.reader(text), [])
        except (EOFError, OSError, zlib.error, csv.Error) as error:
            raise UnreadableFile(f"{self.path} is cut off or damaged: {error}.") from error
        finally:
            text.detach()

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
            first = self._content().readline(_LONGEST_LINE).removeprefix(_BYTE_ORDER_MARK)
        except (EOFError, OSError, zlib.error) as error:
            raise UnreadableFile(f"{self.path} is cut off or damaged: {error}.") from error
        line = first.decode(errors="replace").strip("\r\n ")
        if not line:
            raise UnreadableFile(f"{self.path} is empty or begins with an empty line.")
        if _NO_TEXT.search(line):
            raise UnreadableFile(f"{self.path} is not a text file, nor one that gzip has made.")
        if line.startswith("{"):
            return Format.NDJSON
        return Format.LOG if access_log.looks_like(line) else Format.CSV


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_LONGEST_LINE):
        digest.update(chunk)
    return digest.hexdigest()


def _lines(content: BinaryIO) -> Iterator[bytes]:
    """All lines, without a byte order mark; of one that is too long, its beginning."""
    mark = _BYTE_ORDER_MARK
    while line := content.readline(_LONGEST_LINE):
        yield line.removeprefix(mark)
        mark = b""
        while not line.endswith(b"\n") and (line := content.readline(_LONGEST_LINE)):
            pass


def _text(content: BinaryIO) -> io.TextIOWrapper:
    # Bytes that are not UTF-8 become surrogates, which no JSON can carry: such a row is refused later, alone.
    return io.TextIOWrapper(content, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _csv_rows(content: BinaryIO) -> Iterator[Row]:
    text = _text(content)
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
