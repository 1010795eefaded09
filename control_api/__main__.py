"""`python -m control_api`: one process that serves HTTP and does its background work."""

import asyncio
import logging
import os
import signal
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import structlog
import uvloop
from granian.constants import Interfaces, SSLProtocols
from granian.server.embed import Server

from control_api.app import create_app
from control_api.errors import SettingsError
from control_api.life import Life
from control_api.settings import Settings, load
from schemas.process import allow_connections

_WAITING_CONNECTIONS, _MOST_CONNECTIONS = 1_024, 4_096
"""At a time, idle ones and streams too: Granian's own default accepts 128, and none beyond them."""
_OTHER_FILES = 512
_ANSWER_SECONDS = 2.5
_END_SECONDS = 4.5


def main() -> None:
    """Runs until SIGTERM or SIGINT, then ends within 10 s, whatever is away; exits with one sentence when a
    setting is wrong."""
    try:
        settings = load(os.environ)
        _require_free("FLIGHTLINE_BIND", settings.host, settings.port)
        if settings.grpc is not None:
            _require_free("FLIGHTLINE_GRPC_BIND", settings.grpc.host, settings.grpc.port)
            grpc = settings.grpc
            _require_certificate("FLIGHTLINE_GRPC_TLS_…", grpc.certificate, grpc.key, grpc.client_ca)
        _require_certificate("FLIGHTLINE_TLS_…", settings.certificate, settings.key)
    except SettingsError as error:
        sys.exit(f"control_api: {error}")
    _configure_logging()
    uvloop.run(_serve(settings, allow_connections(_MOST_CONNECTIONS, _OTHER_FILES)))


def _require_free(name: str, host: str, port: int) -> None:
    """Raises SettingsError when another program has the port; other replicas may (SO_REUSEPORT)."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            probe.bind(address)
    except OSError as error:
        raise SettingsError(f"{name} cannot be bound: {error}.") from None


def _require_certificate(
    names: str, certificate: str | None, key: str | None, client_ca: str | None = None
) -> None:
    """Raises SettingsError when the files cannot be used: before anything is started."""
    if certificate is None or key is None:
        return
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_ca)
        context.load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise SettingsError(f"{names} cannot be used: {error}.") from None


async def _serve(settings: Settings, connections: int) -> None:
    life = Life()
    server = Server(
        create_app(settings, life),
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        websockets=False,
        log_enabled=False,
        backlog=_WAITING_CONNECTIONS,
        backpressure=connections,
        ssl_cert=Path(settings.certificate) if settings.certificate else None,
        ssl_key=Path(settings.key) if settings.key else None,
        ssl_protocol_min=SSLProtocols.tls13,
    )
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    serving = asyncio.create_task(server.serve())
    stopping = asyncio.create_task(stopped.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    life.stopping = True
    if not serving.done():
        await asyncio.wait({serving}, timeout=settings.drain_seconds)
        server.stop()  # type: ignore[no-untyped-call]
    stopping.cancel()
    # What is under way is answered first; what hangs on an engine by then is answered with 503.
    await asyncio.wait({serving}, timeout=_ANSWER_SECONDS)
    life.give_up()
    # A client that is still sending its body does not keep the process.
    await asyncio.wait({serving}, timeout=_END_SECONDS)
    if serving.done():
        serving.result()


def _configure_logging() -> None:
    """One JSON object a line on standard output, also for what libraries log."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    logging.basicConfig(level=logging.ERROR, handlers=[handler])


if __name__ == "__main__":
    main()
