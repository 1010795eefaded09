"""Calls with one answer, which may be repeated, and calls with many."""

import asyncio
from contextlib import aclosing
from typing import Any

import grpc
import msgspec
import structlog
from google.protobuf.message import Message
from google.rpc import status_pb2

from control_api import metrics
from control_api.errors import Unavailable
from control_api.handlers.actor import Actor
from control_api.handlers.ports import Store
from control_api.routes.problems import ProblemType, kind_of
from control_api.routes.repeats import NOT_KEPT, SERVER_ERROR, checked_key
from control_api.rpc.campaigns import Method, Stream
from control_api.rpc.entry import Entry, Opened, Refused
from control_api.rpc.status import status_of
from control_api.stores.repeat import Repeat, repeat_of

log = structlog.get_logger(__name__)

LONGEST_SECONDS = 30.0
"""For a call with one answer whose caller has set no deadline, or a later one."""


class _Kept(msgspec.Struct, array_like=True):
    """The answer of a call that may be repeated: a message, or a status."""

    message: bytes | None
    status: bytes | None = None


class Unary:
    """A method with one answer: bytes to bytes, so that what is no message gets a clear refusal as well."""

    def __init__(self, entry: Entry, method: Method, *, repeatable: bool) -> None:
        self._entry = entry
        self._method = method
        self._repeatable = repeatable

    async def answer(self, request: bytes, context: Any) -> bytes:
        """Answers, or ends the call with a rich status."""
        left = context.time_remaining()
        async with self._entry.opened(context) as call:
            async with asyncio.timeout(min(LONGEST_SECONDS if left is None else left, LONGEST_SECONDS)):
                return await self._answer(request, call)
        raise AssertionError("a call that was not answered has ended with a status")

    async def _answer(self, request: bytes, call: Opened) -> bytes:
        services = self._entry.services
        actor, message = await self._entry.admitted(call, request)
        key = checked_key(call.all("idempotency-key")) if self._repeatable else None
        if key is None:
            return await self._call(call, actor, message, services.store, None)
        who = f"{actor.organization_id} {actor.name}"
        asked = b"\n".join([b"GRPC", self._entry.path.encode(), request])
        repeat = repeat_of(services.secret, who, key, asked)
        if kept := await services.repeats.answer(repeat):
            metrics.REPEATED.inc()
            return _again(msgspec.msgpack.decode(kept, type=_Kept))
        return await self._once(repeat, call, actor, message, key)

    async def _call(
        self, call: Opened, actor: Actor, message: Message, store: Store, key: str | None
    ) -> bytes:
        answer = await self._method(self._entry.call(call, actor, store, key), message)
        return bytes(answer.SerializeToString())

    async def _once(self, repeat: Repeat, call: Opened, actor: Actor, message: Message, key: str) -> bytes:
        """As the middleware of HTTP: the answer is kept before it is given, a refusal as well."""
        try:
            store = self._entry.services.repeats.store(repeat)
            answer = await self._call(call, actor, message, store, key)
        except Exception as error:
            if _is_kept(kind_of(error)):
                status = status_of(error, call.request_id)
                await self._keep(repeat, _Kept(None, status.SerializeToString()))
            raise
        await self._keep(repeat, _Kept(answer))
        return answer

    async def _keep(self, repeat: Repeat, answer: _Kept) -> None:
        try:
            await self._entry.services.repeats.keep(repeat, msgspec.msgpack.encode(answer))
        except Unavailable:
            # What was done is kept with its transaction, and the answer can be made again of it.
            log.warning("repeats.answer_not_kept")

    @property
    def handler(self) -> grpc.RpcMethodHandler:
        """As the server takes it: without (de)serializers, which would answer in our place."""
        return grpc.unary_unary_rpc_method_handler(self.answer)


class Streaming:
    """A method with many answers, until it or its caller ends."""

    def __init__(self, entry: Entry, method: Stream) -> None:
        self._entry = entry
        self._method = method

    async def answer(self, request: bytes, context: Any) -> None:
        """Writes answers, and ends the call with a rich status."""
        async with self._entry.opened(context) as call:
            actor, message = await self._entry.admitted(call, request)
            asked = self._entry.call(call, actor, self._entry.services.store, None)
            async with aclosing(self._method(asked, message)) as parts:
                async for part in parts:
                    await context.write(part.SerializeToString())

    @property
    def handler(self) -> grpc.RpcMethodHandler:
        """As the server takes it."""
        return grpc.unary_stream_rpc_method_handler(self.answer)


def _again(kept: _Kept) -> bytes:
    if kept.status is not None:
        raise Refused(status_pb2.Status.FromString(kept.status))
    return kept.message or b""


def _is_kept(kind: ProblemType) -> bool:
    return kind.status < SERVER_ERROR and kind.status not in NOT_KEPT
