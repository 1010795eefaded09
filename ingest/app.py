"""The composition root: builds the door's parts and runs them."""

import asyncio
import signal
import socket
import time
from contextlib import suppress
from functools import partial

import structlog
from granian.http import HTTP1Settings
from granian.server.embed import Server

from ingest.access import Access
from ingest.campaign_feed import CampaignFeed
from ingest.domain.bots import is_bot
from ingest.domain.judge import Judge
from ingest.domain.knowledge import Knowledge
from ingest.errors import SettingError
from ingest.kafka_sink import KafkaSink
from ingest.routes import Routes
from ingest.settings import Settings
from ingest.slow_bodies import BodyReader
from ingest.snapshot import SnapshotFile

log = structlog.get_logger(__name__)

_MEGABYTE = 1024 * 1024
_SPARE_SECONDS = 1.0
_LOOK_SECONDS = 0.01
_LAST_BYTES_SECONDS = 0.1
"""An answer that was handed to the server is written by a thread of its own."""


class FeedReadiness:
    """Ready once the topics were read to their ends, or a snapshot was found; until then it catches up."""

    def __init__(self, feed: CampaignFeed, *, from_snapshot: bool) -> None:
        self._feed = feed
        self._from_snapshot = from_snapshot

    @property
    def ready(self) -> bool:
        """Whether enough is known to decide by."""
        return self._from_snapshot or self._feed.complete

    @property
    def catching_up(self) -> bool:
        """Whether what is unknown may only not have been read yet."""
        return not self._feed.complete


async def run(settings: Settings) -> None:
    """Runs a door until SIGTERM or SIGINT; then answers what it has taken, and stops.

    Raises SettingError when the address cannot be bound.
    """
    _require_free(settings)
    knowledge = Knowledge()
    snapshot = SnapshotFile(settings.state, knowledge)
    from_snapshot = snapshot.load()
    feed = CampaignFeed(settings.kafka, knowledge)
    sink = _sink(settings)
    body_reader = BodyReader(settings.body_ms / 1000)
    routes = Routes(
        knowledge=knowledge,
        access=Access(settings, knowledge),
        judge=Judge(knowledge, is_bot),
        sink=sink,
        readiness=FeedReadiness(feed, from_snapshot=from_snapshot),
        body_reader=body_reader,
    )
    server = _server(routes, settings)
    parts = (feed.run(), sink.run(), snapshot.keep(feed), body_reader.run())
    background = [asyncio.get_running_loop().create_task(part) for part in parts]
    failures: list[BaseException] = []
    for task in background:
        task.add_done_callback(partial(_end_of_part, server=server, failures=failures))
    log.info("door.starting", host=settings.host, port=settings.port, from_snapshot=from_snapshot)
    await _serve_until_told(server, routes, settings.deadline_ms / 1000)
    await sink.close()
    await _cancel(background)
    if feed.complete:
        with suppress(OSError):
            snapshot.save()
    log.info("door.stopped")
    if failures:
        raise failures[0]


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _sink(settings: Settings) -> KafkaSink:
    return KafkaSink(
        settings.kafka,
        linger_seconds=settings.linger_ms / 1000,
        deadline_seconds=settings.deadline_ms / 1000,
        max_pending_bytes=settings.max_pending_mb * _MEGABYTE,
    )


def _end_of_part(task: asyncio.Task[None], *, server: Server, failures: list[BaseException]) -> None:
    """A part ends only with the door. One that fails is a bug: better a door that is started again."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("door.part_failed", error=repr(error))
        failures.append(error)
        server.stop()  # type: ignore[no-untyped-call]  # granian leaves it untyped


def _require_free(settings: Settings) -> None:
    """Raises SettingError when another program has the port; other doors may (SO_REUSEPORT)."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            probe.bind(address)
    except OSError as error:
        raise SettingError(f"FLIGHTLINE_BIND cannot be bound: {error}.") from None


def _server(routes: Routes, settings: Settings) -> Server:
    return Server(
        routes,
        address=settings.host,
        port=settings.port,
        backlog=settings.max_connections,
        backpressure=settings.max_connections,
        websockets=False,
        log_enabled=False,
        http1_settings=HTTP1Settings(header_read_timeout=10_000),
    )


async def _serve_until_told(server: Server, routes: Routes, deadline_seconds: float) -> None:
    """Serves until SIGTERM or SIGINT. Granian cuts its connections when it stops, so requests end first."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    serving = loop.create_task(server.serve())
    telling = loop.create_task(told.wait())
    await asyncio.wait((serving, telling), return_when=asyncio.FIRST_COMPLETED)
    telling.cancel()
    if not serving.done():
        routes.drain()
        ends = time.monotonic() + deadline_seconds + _SPARE_SECONDS
        while routes.in_flight and time.monotonic() < ends:
            await asyncio.sleep(_LOOK_SECONDS)
        await asyncio.sleep(_LAST_BYTES_SECONDS)
        server.stop()  # type: ignore[no-untyped-call]  # granian leaves it untyped
    await serving
