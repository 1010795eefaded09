"""Reads bodies and query parameters into Structs, and names everything that is wrong with them at once."""

import json
import re
import types
from collections import Counter
from datetime import datetime
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, UNSET, UnsetType

from control_api.domain.refusals import FieldError
from control_api.errors import MalformedRequest

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

_PATH = re.compile(r" - at `\$(?P<path>[^`]*)`$")
_BOOLEANS = ("true", "false")
MAX_ERRORS = 100
"""Named at once, about: a body of half a million wrong items would cost half a minute."""
_MOST_NAMED, _MOST_OF_A_NAME = 10, 80
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class UnknownField(FieldError, frozen=True):
    """A field that the request's model does not have."""


def read_body(kind: type[T], body: bytes) -> tuple[T | None, tuple[FieldError, ...]]:
    """A body as `kind`, with what is wrong with its fields.

    Fields that are wrong are left out of the value, which is None when it cannot do without them. Raises
    MalformedRequest when it is not JSON or has unknown fields.
    """
    try:
        value, errors = _read(kind, body, "")
        given_twice = _given_twice(body)
    except _UNREADABLE as error:
        raise MalformedRequest("the body is not JSON that can be read") from error
    if unknown := [error for error in errors if isinstance(error, UnknownField)]:
        raise MalformedRequest("the body has unknown fields", unknown[:MAX_ERRORS])
    if given_twice:
        raise MalformedRequest(f"the body gives a field twice: {', '.join(given_twice)}")
    errors.extend(_unstorable(value, ""))
    return value, tuple(errors[:MAX_ERRORS])


def _given_twice(body: bytes) -> list[str]:
    """Names that an object of the body has more than once: which of them counts would be anybody's guess."""
    twice: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        times = Counter(name for name, _ in pairs)
        if len(times) < len(pairs):
            twice.extend(name[:_MOST_OF_A_NAME] for name, count in times.items() if count > 1)

    # Numbers as text: the standard library refuses integers of thousands of digits, which msgspec has read.
    json.loads(body, object_pairs_hook=look, parse_int=str)
    return twice[:_MOST_NAMED]


def read_parameters(kind: type[S], parameters: list[tuple[str, str]]) -> S:
    """Query parameters as a Struct; a field that is a tuple takes repeated ones.

    Raises MalformedRequest for unknown, repeated or unreadable ones.
    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    errors: list[FieldError] = []
    values: dict[str, Any] = {}
    for name in dict.fromkeys(name for name, _ in parameters):
        given = [value for other, value in parameters if other == name]
        if name not in fields:
            errors.append(FieldError(name, "unknown parameter"))
            continue
        many = get_origin(plain_type(fields[name].type)) is tuple
        if len(given) > 1 and not many:
            errors.append(FieldError(name, "given more than once"))
        elif any("\0" in value for value in given):
            errors.append(FieldError(name, "must not contain NUL"))
        else:
            value, problem = _parameter(fields[name].type, given if many else given[0])
            values[fields[name].name] = value
            errors.extend([FieldError(name, problem)] if problem else [])
    if errors:
        raise MalformedRequest("some query parameters are not valid", errors)
    return kind(**values)


def _parameter(kind: Any, given: str | list[str]) -> tuple[Any, str | None]:
    try:
        value = msgspec.convert(given, kind, strict=False)
        if isinstance(value, datetime):  # leniently, a number would be one as well
            value = msgspec.convert(given, kind)
        if isinstance(value, bool) and given not in _BOOLEANS:
            return None, "is neither true nor false"
    except msgspec.ValidationError as error:
        pass_again = given.replace(" ", "+") if isinstance(given, str) else given
        if pass_again != given:  # the plus of a time's offset, sent without being encoded
            return _parameter(kind, pass_again)
        return None, _PATH.sub("", str(error))
    # A parameter that is not given is left out: the word null is no value.
    return value, "has no value" if value is None else None


def _read(kind: Any, raw: bytes, pointer: str) -> tuple[Any, list[FieldError]]:
    """`raw` as `kind`; goes into objects and lists to find every error, not only the first."""
    try:
        return msgspec.json.decode(raw, type=kind), []
    except msgspec.ValidationError as error:
        plain = plain_type(kind)
        if isinstance(plain, type) and issubclass(plain, msgspec.Struct) and raw.lstrip()[:1] == b"{":
            return _read_object(plain, raw, pointer)
        if get_origin(plain) is tuple and raw.lstrip()[:1] == b"[":
            _, errors = _read_items(get_args(plain)[0], raw, pointer)
            if errors:
                return None, errors
        return None, [FieldError(pointer + _pointer(str(error)), _PATH.sub("", str(error)))]


def _read_object(kind: type[msgspec.Struct], raw: bytes, pointer: str) -> tuple[Any, list[FieldError]]:
    given = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    errors: list[FieldError] = [
        UnknownField(f"{pointer}/{_escaped(name)}", "unknown field") for name in given if name not in fields
    ]
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in given:
            value, wrong = _read(field.type, bytes(given[name]), f"{pointer}/{name}")
            errors.extend(wrong)
            if value is not None or not wrong:
                values[field.name] = value
        elif field.default is NODEFAULT and field.default_factory is NODEFAULT:
            errors.append(FieldError(f"{pointer}/{name}", "is required"))
    needed = (
        field.name
        for field in fields.values()
        if field.default is NODEFAULT and field.default_factory is NODEFAULT
    )
    complete = all(name in values for name in needed)
    return (kind(**values) if complete else None), errors


def _read_items(kind: Any, raw: bytes, pointer: str) -> tuple[None, list[FieldError]]:
    errors: list[FieldError] = []
    for index, item in enumerate(msgspec.json.decode(raw, type=list[msgspec.Raw])):
        errors.extend(_read(kind, bytes(item), f"{pointer}/{index}")[1])
        if len(errors) >= MAX_ERRORS:
            break
    return None, errors


def plain_type(kind: Any) -> Any:
    """A type without Annotated, None and UNSET around it."""
    if get_origin(kind) is Annotated:
        return plain_type(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        rest = [part for part in get_args(kind) if part not in (types.NoneType, UnsetType)]
        return plain_type(rest[0]) if len(rest) == 1 else kind
    return kind


def _pointer(sentence: str) -> str:
    found = _PATH.search(sentence)
    if found is None:
        return ""
    return "".join(f"/{name or index}" for name, index in _STEP.findall(found["path"]))


def _escaped(name: str) -> str:
    return name[:_MOST_OF_A_NAME].replace("~", "~0").replace("/", "~1")


def _unstorable(value: Any, pointer: str) -> list[FieldError]:
    """Texts with NUL, which Postgres cannot hold."""
    if value is None or value is UNSET:
        return []
    return [
        FieldError(pointer, "must not contain NUL")
        for pointer, text in _texts(msgspec.to_builtins(value, enc_hook=str), pointer)
        if "\0" in text
    ]


def _texts(value: Any, pointer: str) -> list[tuple[str, str]]:
    if isinstance(value, str):
        return [(pointer, value)]
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in _texts(item, f"{pointer}/{key}")]
    if isinstance(value, list | tuple):
        return [found for index, item in enumerate(value) for found in _texts(item, f"{pointer}/{index}")]
    return []
