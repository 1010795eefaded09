"""The items of an array of JSON in a file, one after the other, each as the bytes that stand there.

Only brackets and texts are looked at; whether an item is JSON is for whoever reads it. (Why not ijson 3.6: an
integer of 5,000 digits ends the whole process in its C parser, and so does the depth of an array its memory.)
"""

import re
from collections.abc import Iterator
from typing import IO

from control_api.errors import ControlError

MAX_ITEM_BYTES = 1 << 20
_CHUNK_BYTES = 64 << 10
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["\[\]{},]', re.DOTALL)
"""A whole text, or a character that has a meaning; a `"` alone begins a text that has not come whole yet."""

_DEPTH = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}


class BadFile(ControlError):
    """The file as a whole cannot be read; says where and why."""


def array_items(file: IO[bytes]) -> Iterator[bytes]:
    """The items from the file's position on. Raises BadFile, also when one is larger than MAX_ITEM_BYTES."""
    held = _opened(file)
    depth, scanned, place = 1, 0, 1
    while True:
        start = 0
        for token in _TOKEN.finditer(held, scanned):
            text = token[0]
            if text == b'"':
                scanned = token.start()
                break
            scanned = token.end()
            depth += _DEPTH.get(text, 0)
            if depth == 0:
                yield from _last(held[start : token.start()], place)
                _require_end(file, text, held[scanned:])
                return
            if depth == 1 and text == b",":
                yield held[start : token.start()]
                start, place = scanned, place + 1
        else:
            scanned = len(held)
        held, scanned = held[start:], scanned - start
        if len(held) > MAX_ITEM_BYTES + _CHUNK_BYTES:
            raise BadFile(f"item {place} is larger than {MAX_ITEM_BYTES} bytes")
        if not (chunk := file.read(_CHUNK_BYTES)):
            raise BadFile(f"the array breaks off in item {place}")
        held += chunk


def _opened(file: IO[bytes]) -> bytes:
    """What follows the opening bracket in the first bytes that are not blank."""
    while chunk := file.read(_CHUNK_BYTES):
        if text := chunk.lstrip():
            if not text.startswith(b"["):
                break
            return text[1:]
    raise BadFile("the file must be one array")


def _last(text: bytes, place: int) -> Iterator[bytes]:
    if text.strip() or place > 1:
        yield text


def _require_end(file: IO[bytes], bracket: bytes, rest: bytes) -> None:
    if bracket != b"]":
        raise BadFile("the array is closed by the wrong bracket")
    while not rest.strip():
        rest = file.read(_CHUNK_BYTES)
        if not rest:
            return
    raise BadFile("something stands behind the array")
