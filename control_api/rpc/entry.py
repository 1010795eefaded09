"""What every call goes through, one answer or many: who asks, whether he may, errors, metrics, the log."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import unquote

import msgspec
import structlog
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, status_pb2
from grpc_status import rpc_status

from control_api import metrics
from control_api.auth.address import Network, address_hash, client_of
from control_api.auth.authenticator import Credentials, Told
from control_api.auth.entrance import Entrance
from control_api.domain.permissions import OF_METHOD
from control_api.errors import Forbidden, MalformedRequest, TooSlow
from control_api.handlers.actor import Actor
from control_api.handlers.live import Streams
from control_api.handlers.ports import Clock, Store
from control_api.handlers.track import Door
from control_api.routes.edge import request_id_of, trace_of
from control_api.routes.problems import INTERNAL, kind_of
from control_api.rpc.campaigns import Call
from control_api.rpc.status import status_of
from control_api.stores.once import Repeats

log = structlog.get_logger(__name__)

_PRIVACY = ("sec-gpc", "dnt")


class RpcServices(msgspec.Struct, frozen=True, kw_only=True):
    """What calls need of the world."""

    store: Store
    clock: Clock
    entrance: Entrance
    repeats: Repeats
    door: Door
    streams: Streams
    secret: str
    trusted_proxies: Sequence[Network] = ()


class Refused(Exception):
    """A call that ends with a status."""

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__(status.message)
        self.status = status


class Opened(msgspec.Struct, frozen=True):
    """A call as it came, and what is known of it."""

    metadata: list[tuple[str, str]]
    told: Told

    @property
    def credentials(self) -> Credentials:
        """What the caller has shown."""
        return Credentials(self.all("authorization"), self.all("x-api-key"))

    def all(self, name: str) -> list[str]:
        """Every value of a name."""
        return [value for other, value in self.metadata if other == name]

    @property
    def request_id(self) -> str:
        return self.told.request_id or ""


class Entry:
    """The way into one method."""

    def __init__(self, services: RpcServices, path: str, kind: type[Message]) -> None:
        self.services = services
        self.path = path
        self._kind = kind

    @contextlib.asynccontextmanager
    async def opened(self, context: Any) -> AsyncIterator[Opened]:
        """The call, for the block; what the block raises ends it with a rich status."""
        began, code = time.perf_counter(), code_pb2.OK
        pairs = context.invocation_metadata() or ()
        metadata = [(name, value) for name, value in pairs if isinstance(value, str)]
        headers = [(name.encode(), value.encode()) for name, value in metadata]
        request_id, (trace_id, traceparent) = request_id_of(headers), trace_of(headers)
        address = self._address(context, metadata)
        call = Opened(metadata, Told(request_id, traceparent, address))
        with structlog.contextvars.bound_contextvars(request_id=request_id, trace_id=trace_id):
            try:
                own = (("x-request-id", request_id), ("traceparent", traceparent))
                await context.send_initial_metadata(own)
                yield call
            except asyncio.CancelledError:
                code = code_pb2.CANCELLED
                raise
            except Exception as error:  # noqa: BLE001  whatever it is, the caller gets a status
                status = self._status(error, request_id)
                code = status.code
                await context.abort_with_status(rpc_status.to_status(status))
            finally:
                _count(self.path, code_pb2.Code.Name(code), time.perf_counter() - began)

    async def admitted(self, call: Opened, request: bytes) -> tuple[Actor, Message]:
        """Who calls, when he may, and with what. Raises Unauthorized, Forbidden, TooManyRequests,
        MalformedRequest."""
        services = self.services
        actor = await services.entrance.actor(call.credentials, call.told, services.clock())
        if self.path not in OF_METHOD:
            raise Forbidden("nobody may do this")
        actor.require(OF_METHOD[self.path])
        message = self._kind()
        try:
            message.ParseFromString(request)
        except DecodeError as error:
            raise MalformedRequest("the request is not a message of its type") from error
        return actor, message

    def call(self, opened: Opened, actor: Actor, store: Store, key: str | None) -> Call:
        """What a method gets."""
        services = self.services
        return Call(
            store=store,
            clock=services.clock,
            actor=actor,
            door=services.door,
            streams=services.streams,
            secret=services.secret,
            key=key,
            still=services.entrance.watch(opened.credentials, OF_METHOD[self.path], services.clock),
            privacy={name: opened.all(name)[0] for name in _PRIVACY if opened.all(name)},
        )

    def _address(self, context: Any, metadata: list[tuple[str, str]]) -> str | None:
        forwarded = [value for name, value in metadata if name == "x-forwarded-for"]
        client = client_of(_peer(context), forwarded, self.services.trusted_proxies)
        return address_hash(self.services.secret, client)

    def _status(self, error: Exception, request_id: str) -> status_pb2.Status:
        if isinstance(error, Refused):
            return error.status
        if isinstance(error, TimeoutError):
            return status_of(TooSlow("the call took too long: what was committed by then stays"), request_id)
        if kind_of(error) is INTERNAL:
            metrics.ERRORS.inc()
            log.error("request.failed", path=self.path, exc_info=error)
        return status_of(error, request_id)


def _peer(context: Any) -> str | None:
    """The address in `ipv4:127.0.0.1:5000` or `ipv6:%5B::1%5D:5000`."""
    kind, _, rest = unquote(context.peer()).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in {"ipv4", "ipv6"} else None


def _count(path: str, code: str, seconds: float) -> None:
    metrics.REQUESTS.labels("GRPC", path, code).inc()
    metrics.REQUEST_SECONDS.labels("GRPC", path).observe(seconds)
    log.info("request", method="GRPC", path=path, status=code, ms=round(seconds * 1000, 1))
