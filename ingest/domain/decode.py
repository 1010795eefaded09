"""From the bytes of a body to its events: each one decoded, or refused without harm to its neighbours.

A body that is well is decoded in one go. Only when that fails are its elements taken apart and decoded one
by one.
"""

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, TypeVar

import msgspec

from ingest.domain.incoming import MAX_EVENT_BYTES, MAX_EVENTS, MAX_TEXT, IncomingEvent, Refused
from schemas.reasons import Rejected

Decoded = IncomingEvent | Refused
_Element = bytes | msgspec.Raw
_T = TypeVar("_T")

SAMPLE_BYTES = 1_024
_MAX_DETAIL = 300
"""Characters: it quotes unknown names and values, as long as the event."""

_NUL_ESCAPE = b"\\u0000"
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_LONE_SURROGATE = re.compile(
    rb"(?<!\\)(?:\\\\)*(?:\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2})"
)
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{},]', re.DOTALL)
"""A string without its end reaches to the end of the text: were it no token, each of its quotes would be
tried as a beginning, and a few kilobytes would take minutes."""
_MAX_TOKENS = 200_000
"""Of a broken array that is taken apart, about a quarter of a second; a thousand events have 60,000 or so."""
_OPENING, _CLOSING = b"[{", b"]}"
_BLANK = b" \t\r\n"

_one = msgspec.json.Decoder(IncomingEvent)
_many = msgspec.json.Decoder(list[IncomingEvent])
_raw = msgspec.json.Decoder(msgspec.Raw)
_raws = msgspec.json.Decoder(list[msgspec.Raw])


class _IdOnly(msgspec.Struct, rename="camel"):
    event_id: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)] | None = None


_id_only = msgspec.json.Decoder(_IdOnly)


class Framing(StrEnum):
    """How the events of a body are set apart; TEXT is any of the others, to be recognised."""

    JSON = "application/json"
    NDJSON = "application/x-ndjson"
    TEXT = "text/plain"


class BadBody(ValueError):
    """A body that as a whole is not events: no event of it can be told from another."""


class TooManyEvents(ValueError):
    """More events than one request may carry."""


def decode_events(body: bytes, framing: Framing) -> Sequence[Decoded]:
    """The events of `body` in their order.

    Raises BadBody when it is not UTF-8, empty, or broken outside its events, TooManyEvents above the limit.
    """
    _require_utf8(body)
    stripped = body.strip(_BLANK)
    if not stripped:
        raise BadBody("the body is empty")
    if framing is Framing.NDJSON:
        return _lines(stripped)
    if stripped[:1] == b"[":
        return _array(stripped)
    if stripped[:1] != b"{":
        raise BadBody("the body must be an event, an array of events, or a line for each event")
    if framing is Framing.TEXT and b"\n" in stripped and not _is_json(stripped):
        return _lines(stripped)
    return (_single(stripped),)


def decode_one(content: bytes) -> Decoded:
    """One event that is known to stand alone; what is wrong with it is its own refusal."""
    if len(content) > MAX_EVENT_BYTES:
        return _refused(Rejected.TOO_LARGE, f"an event has at most {MAX_EVENT_BYTES} bytes", content)
    if _NUL_ESCAPE in content and _NUL.search(content):
        return _refused(Rejected.MALFORMED, "a text must not contain NUL", content)
    try:
        return _one.decode(content)
    except RecursionError:
        return _refused(Rejected.MALFORMED, "nested too deep", content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        # msgspec has one error for all constraints: a length that is exceeded shows in its sentence.
        too_long = "of length <=" in str(error)
        return _refused(Rejected.TOO_LARGE if too_long else Rejected.MALFORMED, str(error), content)


def data_depth(raw: bytes) -> int:
    """How deep the objects and arrays of a JSON text are nested."""
    depth = deepest = 0
    for token in _TOKEN.findall(raw):
        if token in _OPENING:
            depth += 1
            deepest = max(deepest, depth)
        elif token in _CLOSING:
            depth -= 1
    return deepest


def _require_utf8(body: bytes) -> None:
    if body.isascii():
        return
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise BadBody(f"the body is not UTF-8 at byte {error.start}") from None


def _is_json(body: bytes) -> bool:
    try:
        _raw.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def _single(body: bytes) -> Decoded:
    if len(body) <= MAX_EVENT_BYTES and _NUL_ESCAPE not in body:
        try:
            return _one.decode(body)
        except (msgspec.ValidationError, RecursionError):
            pass
        except msgspec.DecodeError as error:
            if not _LONE_SURROGATE.search(body):
                raise BadBody(str(error)) from None
    return decode_one(body)


def _array(body: bytes) -> Sequence[Decoded]:
    if len(body) > MAX_EVENT_BYTES:
        elements = _split(body)
        plain = _NUL_ESCAPE not in body and max(map(len, elements), default=0) <= MAX_EVENT_BYTES
    else:
        elements, plain = None, _NUL_ESCAPE not in body
    if plain:
        try:
            return _limited(_many.decode(body))
        except (msgspec.MsgspecError, RecursionError):
            pass
    return [decode_one(bytes(element)) for element in elements or _split(body)]


def _lines(body: bytes) -> Sequence[Decoded]:
    return [decode_one(line) for line in _limited([line for line in body.split(b"\n") if line.strip(_BLANK)])]


def _limited(elements: list[_T]) -> list[_T]:
    if len(elements) > MAX_EVENTS:
        raise TooManyEvents(f"{len(elements)} events; a request carries at most {MAX_EVENTS}")
    return elements


def _refused(reason: Rejected, detail: str, content: bytes) -> Refused:
    return Refused(reason, detail[:_MAX_DETAIL], _event_id(content), content[:SAMPLE_BYTES])


def _event_id(content: bytes) -> str | None:
    """The id if it is one: refusals are kept for inspection, and an id may be as large as the request."""
    try:
        return _id_only.decode(content).event_id
    except (msgspec.MsgspecError, RecursionError):
        return None


def _split(body: bytes) -> Sequence[_Element]:
    try:
        return _limited(_raws.decode(body))
    except (msgspec.MsgspecError, RecursionError):
        return _limited(_split_broken(body))


def _split_broken(body: bytes) -> list[bytes]:
    """The elements of an array one of which is not JSON, found by brackets and strings alone."""
    elements: list[bytes] = []
    depth, start = 0, 1
    for number, token in enumerate(_TOKEN.finditer(body)):
        if number > _MAX_TOKENS or len(elements) > MAX_EVENTS:
            raise BadBody("the array is broken, and has too many parts to tell its events apart")
        mark = token.group()
        if mark in _OPENING:
            depth += 1
        elif mark in _CLOSING:
            depth -= 1
            if depth == 0:
                elements.append(body[start : token.start()])
                return _whole(elements, rest=body[token.end() :])
        elif mark == b"," and depth == 1:
            elements.append(body[start : token.start()])
            start = token.end()
    raise BadBody("the array does not end")


def _whole(elements: list[bytes], rest: bytes) -> list[bytes]:
    if rest.strip(_BLANK):
        raise BadBody("something follows the array")
    stripped = [element.strip(_BLANK) for element in elements]
    if not all(stripped):
        raise BadBody("an element of the array is missing")
    return stripped
