"""The request as Litestar hands it to routes: bodies read our way, and the headers that routes need."""

import asyncio
import re
from typing import Any

import msgspec
from litestar import Request
from litestar.exceptions import InternalServerException
from litestar.handlers import HTTPRouteHandler

from control_api.domain.refusals import FieldError
from control_api.domain.submission import Submission
from control_api.errors import (
    InvalidRequest,
    MalformedRequest,
    NotFound,
    PreconditionRequired,
    TooSlow,
    UnsupportedMediaType,
)
from control_api.handlers.actor import Actor
from control_api.routes.reading import read_body
from schemas.ids import canonical_uuid

_NO_FIELDS, _NULL = b"{}", b"null"
_ETAG = re.compile(r'(?:W/)?"([0-9]{1,9})"|([0-9]{1,9})')
"""As this API writes it, or the bare number: quotes within quotes are lost on many a command line."""


class ApiRequest(Request[Actor, Any, Any]):
    """Decodes a body straight into the Struct that its handler declares: decimals stay exact, unknown fields
    are refused, and all errors are found.

    What is wrong with a Submission is kept in `shape_errors`, so that the rules of campaigns can add theirs.
    """

    async def json(self) -> Any:
        """The declared Struct; without a body, what is required is missing."""
        handler = self.route_handler
        field = handler.parsed_data_field if isinstance(handler, HTTPRouteHandler) else None
        if field is None:
            return await super().json()
        kind = next(part for part in (field.annotation, *field.args) if _is_struct(part))
        body = (await self.body()).strip() or _NO_FIELDS
        if body == _NULL and field.is_optional:
            return None
        value, errors = read_body(kind, body)
        if value is None or (errors and not issubclass(kind, Submission)):
            raise InvalidRequest(errors)
        self.state.shape_errors = errors
        return value

    async def body(self) -> bytes:
        """The whole body as sent.

        Raises TooSlow, UnsupportedMediaType, and MalformedRequest when the client leaves.
        """
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise UnsupportedMediaType(f"send the body as it is, not as {encoding[:40]!r}")
        seconds: float = self.app.state.body_seconds
        try:
            async with asyncio.timeout(seconds):
                return await super().body()
        except TimeoutError:
            raise TooSlow(f"a body must be sent within {seconds:g} seconds") from None
        except InternalServerException:  # what Litestar makes of a client that disconnects
            raise MalformedRequest("the body broke off") from None

    @property
    def shape_errors(self) -> tuple[FieldError, ...]:
        """What could not be read of the body's fields."""
        errors: tuple[FieldError, ...] = self.state.get("shape_errors", ())
        return errors


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def id_in_path(text: str) -> str:
    """The id in a path; what is not an id names nothing. Raises NotFound."""
    found = canonical_uuid(text) if len(text) == len("00000000-0000-0000-0000-000000000000") else None
    if found is None:
        raise NotFound("there is no such resource")
    return found


def if_match_of(request: ApiRequest) -> int | None:
    """The version that If-Match names; None without one, or for `*`. Raises MalformedRequest."""
    header = request.headers.get("if-match")
    if header is None or header.strip() == "*":
        return None
    found = _ETAG.fullmatch(header.strip())
    if found is None:
        raise MalformedRequest('If-Match must be an ETag of this API, such as "3"')
    return int(found[1] or found[2])


def required_if_match_of(request: ApiRequest) -> int:
    """As if_match_of, for changes that must not overwrite unseen. Raises PreconditionRequired."""
    version = if_match_of(request)
    if version is None:
        raise PreconditionRequired("send If-Match with the ETag of the version that you have read")
    return version
