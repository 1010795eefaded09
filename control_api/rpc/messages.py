"""Messages of gRPC as the values that the HTTP side reads and writes, and back: by their JSON names, so that
there is one validation and one view of everything."""

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
from google.protobuf import json_format
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from control_api.domain.refusals import FieldError
from control_api.domain.submission import Submission
from control_api.errors import InvalidRequest
from control_api.routes.reading import read_body

S = TypeVar("S", bound=msgspec.Struct)
M = TypeVar("M", bound=Message)

_TIMESTAMP, _STRUCT = "google.protobuf.Timestamp", "google.protobuf.Struct"
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_encoder = msgspec.json.Encoder()


def read(kind: type[S], message: Message, *, without: frozenset[str] = frozenset()) -> tuple[S, Any]:
    """A message as a request's Struct, and what could not be read of a Submission, as over HTTP. `without`
    are fields that are not the body's. Raises MalformedRequest, InvalidRequest."""
    fields = {name: value for name, value in as_json(message).items() if name not in without}
    value, errors = read_body(kind, _encoder.encode(fields))
    if value is None or (errors and not issubclass(kind, Submission)):
        raise InvalidRequest(errors)
    return value, errors


def as_json(message: Message) -> dict[str, Any]:
    """The fields that are set, under their JSON names."""
    return {field.json_name: _field_as_json(field, value) for field, value in message.ListFields()}


def _field_as_json(field: FieldDescriptor, value: Any) -> Any:
    if field.is_repeated:
        return [_one_as_json(field, item) for item in value]
    return _one_as_json(field, value)


def _one_as_json(field: FieldDescriptor, value: Any) -> Any:
    if field.enum_type is not None:
        return enum_text(field.enum_type, value)
    if field.message_type is None:
        return value
    name = field.message_type.full_name
    if name == _TIMESTAMP:
        return time_text(value)
    return _struct_as_json(value) if name == _STRUCT else as_json(value)


def _struct_as_json(value: Message) -> Any:
    """What JSON has no word for (NaN) makes it a text, which is then the wrong type."""
    try:
        return json_format.MessageToDict(value)
    except (json_format.Error, ValueError):
        return "no JSON"


def time_text(moment: Timestamp) -> str:
    """RFC 3339; a time of no calendar stays one that nobody can read, to be named like any wrong field."""
    try:
        return str(moment.ToJsonString())
    except ValueError:
        return f"{moment.seconds} s"


def enum_text(kind: EnumDescriptor, number: int) -> str:
    """The value's name without the prefix of its type; the number when there is none."""
    found = kind.values_by_number.get(number)
    return found.name.removeprefix(_prefix(kind)) if found else str(number)


def write(kind: type[M], view: Any) -> M:
    """A view of the HTTP side as a message. What has no value is not set."""
    message: M = kind()
    _fill(message, msgspec.to_builtins(view, builtin_types=(datetime, Decimal)))
    return message


def _fill(message: Message, values: Mapping[str, Any]) -> None:
    for field in message.DESCRIPTOR.fields:
        value = values.get(field.json_name)
        if value is None:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name).update(value)
        elif field.is_repeated:
            _extend(getattr(message, field.name), field, value)
        elif field.message_type is not None:
            _fill_part(getattr(message, field.name), value)
        else:
            setattr(message, field.name, _scalar(field, value))


def _extend(items: Any, field: FieldDescriptor, values: list[Any]) -> None:
    for value in values:
        if field.message_type is not None:
            _fill_part(items.add(), value)
        else:
            items.append(_scalar(field, value))


def _fill_part(part: Any, value: Any) -> None:
    part.SetInParent()
    if isinstance(part, Timestamp):
        part.FromDatetime(value)
    else:
        _fill(part, value)


def _scalar(field: FieldDescriptor, value: Any) -> Any:
    if field.enum_type is not None:
        return field.enum_type.values_by_name[_prefix(field.enum_type) + value].number
    if isinstance(value, Decimal):
        return format(value, "f") if field.type == FieldDescriptor.TYPE_STRING else float(value)
    return value


def field_path(error: FieldError) -> str:
    """A JSON pointer as the path of a field: `/settings/landingHosts/0` is `settings.landing_hosts[0]`."""
    path = ""
    for part in error.pointer.strip("/").split("/"):
        if part.isdecimal():
            path += f"[{part}]"
        else:
            path += ("." if path else "") + snake_case(part)
    return path


def snake_case(name: str) -> str:
    """`landingHosts` as `landing_hosts`."""
    return _WORD.sub("_", name).lower()


def _prefix(kind: EnumDescriptor) -> str:
    return f"{snake_case(kind.name).upper()}_"
