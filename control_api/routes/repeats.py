"""Idempotency-Key: a POST that is sent again is answered as it was the first time, and done once."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from control_api import metrics
from control_api.errors import MalformedRequest, Unavailable
from control_api.routes.request import ApiRequest
from control_api.stores.once import Repeats
from control_api.stores.repeat import Repeat, repeat_of

log = structlog.get_logger(__name__)

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
NOT_KEPT = {400, 401, 403, 408, 412, 413, 415, 429}
"""Nothing was done, and the same request may fare better, or is none: it is not refused for ever."""
SERVER_ERROR = 500
_REFUSED = 400
_NOT_SHOWN_AGAIN = {b"date", b"content-length"}


class _Answer(msgspec.Struct, array_like=True):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class IdempotencyKeys:
    """A middleware behind authentication. A route that reads its body as a stream sees to its repeats itself
    (`opt={"streams_body": True}`)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers from what is kept, or passes the request on and keeps its answer."""
        if scope["type"] != ScopeType.HTTP or scope["method"] != "POST":
            return await self._app(scope, receive, send)
        request = ApiRequest(scope, receive, send)
        key = key_of(request)
        if key is None or scope["route_handler"].opt.get("streams_body"):
            return await self._app(scope, receive, send)
        repeats: Repeats = request.app.state.repeats
        repeat = repeat_for(request, key, await request.body())
        if answer := await repeats.answer(repeat):
            metrics.REPEATED.inc()
            return await _send_again(msgspec.msgpack.decode(answer, type=_Answer), send)
        scope["state"]["store"] = repeats.store(repeat)
        keeping = _Keeping(send, repeats, repeat, refusals=bool(scope.get("user")))
        await self._app(scope, receive, keeping)
        return None


def key_of(request: ApiRequest) -> str | None:
    """The request's Idempotency-Key. Raises MalformedRequest."""
    return checked_key(request.headers.getall("idempotency-key", []))


def checked_key(given: Sequence[str]) -> str | None:
    """The one key of the values that were given. Raises MalformedRequest."""
    if not given:
        return None
    if len(given) > 1 or not _KEY.fullmatch(given[0]):
        raise MalformedRequest("Idempotency-Key must be 1 to 255 visible ASCII characters, once")
    return given[0]


def repeat_for(request: ApiRequest, key: str, body: bytes) -> Repeat:
    """The request as one that may be sent again; `body` may be a digest of what is too long to be kept."""
    scope: Any = request.scope
    actor = scope.get("user")
    asked = b"\n".join([request.method.encode(), request.url.path.encode(), scope["query_string"], body])
    # Whoever is not known yet has the request itself for a name.
    who = f"{actor.organization_id} {actor.name}" if actor else asked.hex()
    return repeat_of(request.app.state.secret, who, key, asked)


class _Keeping:
    """Holds an answer back until it is kept: who asks again after it must find it. `refusals`: those are kept
    as well; not those of a stranger, who could fill the database with them."""

    def __init__(self, send: Send, repeats: Repeats, repeat: Repeat, *, refusals: bool) -> None:
        self._send = send
        self._repeats = repeats
        self._repeat = repeat
        self._least_not_kept = SERVER_ERROR if refusals else _REFUSED
        self._held: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self._held.append(message)
        if message["type"] != "http.response.body" or message.get("more_body"):
            return
        await self._keep()
        for held in self._held:
            await self._send(held)

    async def _keep(self) -> None:
        start: Any = self._held[0]
        if start["status"] >= self._least_not_kept or start["status"] in NOT_KEPT:
            return
        body = b"".join(message.get("body", b"") for message in self._held[1:])  # type: ignore[misc]
        answer = _Answer(start["status"], list(start["headers"]), body)
        try:
            await self._repeats.keep(self._repeat, msgspec.msgpack.encode(answer))
        except Unavailable:
            # What was done is kept with its transaction, and the answer can be made again of it.
            log.warning("repeats.answer_not_kept")


async def _send_again(answer: _Answer, send: Send) -> None:
    headers = [(name, value) for name, value in answer.headers if name.lower() not in _NOT_SHOWN_AGAIN]
    headers += [(b"content-length", str(len(answer.body)).encode()), (b"idempotent-replayed", b"true")]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})
