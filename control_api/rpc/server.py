"""The gRPC server beside the HTTP one, in the same loop: same handlers, same life."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import structlog
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from control_api.errors import SettingsError
from control_api.life import Life
from control_api.rpc.calls import Streaming, Unary
from control_api.rpc.campaigns import METHODS, REPEATABLE, STREAMS
from control_api.rpc.entry import Entry, RpcServices
from control_api.settings import GrpcSettings
from schemas.flightline.v1 import campaigns_pb2

log = structlog.get_logger(__name__)

SERVICE = campaigns_pb2.DESCRIPTOR.services_by_name["CampaignService"]
_SERVED = (SERVICE.full_name, health.SERVICE_NAME)
_MAX_REQUEST_BYTES = 1 << 20
_MAX_ANSWER_BYTES = 16 << 20
_MAX_METADATA_BYTES = 16 << 10
_MAX_CALLS = 4_000
"""Streams are calls as well, up to a thousand of them (handlers/live.py), and so is one whose message never
comes: all of these must leave room for the others."""
_LOOK_SECONDS = 0.1
_READY_SECONDS = 1.0
_ANSWER_SECONDS = 2.0
_OPTIONS = (
    ("grpc.max_receive_message_length", _MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", _MAX_ANSWER_BYTES),
    ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)
IsReady = Callable[[], Awaitable[bool]]


@contextlib.asynccontextmanager
async def serving(
    settings: GrpcSettings, services: RpcServices, life: Life, is_ready: IsReady, drain_seconds: float
) -> AsyncIterator[None]:
    """Serves for the block. From `life.stopping` on its health is NOT_SERVING; it takes calls for as long as
    HTTP does, then ends those that are under way, or cancels them."""
    server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_MAX_CALLS)
    server.add_generic_rpc_handlers((_campaigns(services),))
    watched = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(watched, server)
    reflection.enable_server_reflection((*_SERVED, reflection.SERVICE_NAME), server)
    _bind(server, settings)
    await server.start()
    log.info("grpc.serving", host=settings.host, port=settings.port, tls=settings.certificate is not None)
    ending = asyncio.create_task(_until_stopped(server, watched, life, is_ready, drain_seconds))
    try:
        yield
    finally:
        life.stopping = True
        await asyncio.wait({ending}, timeout=drain_seconds + _ANSWER_SECONDS + _LOOK_SECONDS)
        ending.cancel()
        await server.stop(None)


async def _until_stopped(
    server: grpc.aio.Server, watched: HealthServicer, life: Life, is_ready: IsReady, drain_seconds: float
) -> None:
    following = asyncio.create_task(_follow(watched, is_ready))
    try:
        while not life.stopping:
            await asyncio.sleep(_LOOK_SECONDS)
    finally:
        following.cancel()
    await watched.enter_graceful_shutdown()
    await asyncio.sleep(drain_seconds)
    await server.stop(_ANSWER_SECONDS)


async def _follow(watched: HealthServicer, is_ready: IsReady) -> None:
    """Tells what /ready tells."""
    while True:
        ready = await is_ready()
        kinds = health_pb2.HealthCheckResponse
        for name in ("", *_SERVED):
            await watched.set(name, kinds.SERVING if ready else kinds.NOT_SERVING)
        await asyncio.sleep(_READY_SECONDS)


def _campaigns(services: RpcServices) -> grpc.GenericRpcHandler:
    handlers = {}
    for method in SERVICE.methods:
        path, name = f"/{SERVICE.full_name}/{method.name}", method.name
        entry = Entry(services, path, GetMessageClass(method.input_type))
        if method.server_streaming:
            handlers[name] = Streaming(entry, STREAMS[name]).handler
        else:
            handlers[name] = Unary(entry, METHODS[name], repeatable=name in REPEATABLE).handler
    return grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)


def _bind(server: grpc.aio.Server, settings: GrpcSettings) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address, given = f"{host}:{settings.port}", _credentials(settings)
    try:
        port = server.add_secure_port(address, given) if given else server.add_insecure_port(address)
    except RuntimeError as error:
        raise SettingsError(f"FLIGHTLINE_GRPC_BIND cannot be bound: {error}.") from None
    if port == 0:
        raise SettingsError("FLIGHTLINE_GRPC_BIND cannot be bound.")


def _credentials(settings: GrpcSettings) -> grpc.ServerCredentials | None:
    """For TLS, where there is a certificate. The process has looked at the files before it began."""
    if settings.certificate is None or settings.key is None:
        return None
    pair = (Path(settings.key).read_bytes(), Path(settings.certificate).read_bytes())
    authorities = Path(settings.client_ca).read_bytes() if settings.client_ca else None
    return grpc.ssl_server_credentials(
        [pair], root_certificates=authorities, require_client_auth=authorities is not None
    )
