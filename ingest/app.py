"""The composition root: builds the door's parts and runs them."""

import asyncio
import signal
import socket
import time
from contextlib import suppress
from functools import partial

import structlog

from ingest.access import Access
from ingest.admission import Admission
from ingest.campaign_feed import CampaignFeed
from ingest.domain.bots import is_bot
from ingest.domain.judge import Judge
from ingest.domain.knowledge import Knowledge
from ingest.drain import Drain, adopt_orphans
from ingest.durable_sink import DurableSink
from ingest.errors import SettingError
from ingest.http.server import Server, bound_to
from ingest.kafka_sink import KafkaSink
from ingest.routes import Routes
from ingest.settings import Settings
from ingest.snapshot import SnapshotFile
from ingest.spool import Spool
from ingest.spool_slots import claim
from schemas.process import allow_connections, spare_the_collector

log = structlog.get_logger(__name__)

_MEGABYTE = 1024 * 1024
_COMMIT_SECONDS = 4.0
"""For the spool's disk: after Kafka's deadline, and still before clients give up (10 s)."""
_LOOK_SECONDS = 0.01
_HEAD_SECONDS = 10.0
"""For a request's head to be sent, and for a kept connection to be silent."""
_OTHER_FILES = 256
"""Of Kafka's connections, the spools, the program itself."""
_CANCELLATIONS = 3
_CANCEL_SECONDS = 1.0
_LAST_BYTES_SECONDS = 0.1
"""For answers that a client is slow to read."""


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
    bound = _bound(settings)
    knowledge = Knowledge()
    snapshot = SnapshotFile(settings.state, knowledge)
    from_snapshot = snapshot.load()
    feed = CampaignFeed(settings.kafka, knowledge)
    kafka = KafkaSink(settings.kafka, deadline_seconds=settings.deadline_ms / 1000)
    spool = _spool(settings)
    await spool.open()
    sink = DurableSink(
        kafka,
        spool,
        linger_seconds=settings.linger_ms / 1000,
        max_pending_bytes=settings.max_pending_mb * _MEGABYTE,
    )
    routes = Routes(
        knowledge=knowledge,
        access=Access(settings, knowledge),
        judge=Judge(knowledge, is_bot),
        sink=sink,
        readiness=FeedReadiness(feed, from_snapshot=from_snapshot),
        admission=Admission(settings.max_pending_mb * _MEGABYTE),
    )
    server = Server(
        routes,
        max_connections=_connections(settings.max_connections),
        head_seconds=_HEAD_SECONDS,
        body_seconds=settings.body_ms / 1000,
    )
    parts = {
        "feed": feed.run(),
        "kafka": kafka.run(),
        "spool": spool.run(),
        "drain": Drain(spool, kafka).run(),
        "orphans": adopt_orphans(settings.state, kafka),
        "snapshot": snapshot.keep(feed),
        "server": server.run(),
    }
    background = [asyncio.get_running_loop().create_task(part, name=name) for name, part in parts.items()]
    failures: list[BaseException] = []
    failed = asyncio.Event()
    for task in background:
        task.add_done_callback(partial(_end_of_part, failed=failed, failures=failures))
    spare_the_collector()
    log.info("door.starting", host=settings.host, port=settings.port, from_snapshot=from_snapshot)
    await _serve_until_told(server, bound, routes, settings, failed)
    await sink.close()
    await _cancel(background)
    await spool.close()
    await kafka.close()
    if feed.complete:
        with suppress(OSError):
            snapshot.save()
    log.info("door.stopped")
    if failures:
        raise failures[0]


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    """Ends them. A library may swallow a cancellation, so it is repeated; then the door goes without them."""
    for _ in range(_CANCELLATIONS):
        for task in tasks:
            task.cancel()
        _, left = await asyncio.wait(tasks, timeout=_CANCEL_SECONDS)
        if not left:
            return
    log.warning("door.parts_left", parts=len(left))


def _spool(settings: Settings) -> Spool:
    return Spool(
        partial(claim, settings.state),
        max_bytes=settings.spool_mb * _MEGABYTE,
        commit_seconds=_COMMIT_SECONDS,
    )


def _end_of_part(task: asyncio.Task[None], *, failed: asyncio.Event, failures: list[BaseException]) -> None:
    """A part ends only with the door. One that fails is a bug: better a door that is started again."""
    if task.cancelling():
        return  # by the door
    error = None if task.cancelled() else task.exception()
    error = error or RuntimeError(f"{task.get_name()} has ended, and nobody told it to")
    log.error("door.part_failed", part=task.get_name(), error=repr(error))
    failures.append(error)
    failed.set()


def _bound(settings: Settings) -> socket.socket:
    """The address, taken before anything else. Raises SettingError when another program has it; other doors
    may.
    """
    try:
        return bound_to(settings.host, settings.port)
    except OSError as error:
        raise SettingError(f"FLIGHTLINE_BIND cannot be bound: {error}.") from None


def _connections(wanted: int) -> int:
    allowed = allow_connections(wanted, _OTHER_FILES)
    if allowed < wanted:
        log.warning("door.fewer_connections", wanted=wanted, allowed=allowed)
    return allowed


async def _serve_until_told(
    server: Server, bound: socket.socket, routes: Routes, settings: Settings, failed: asyncio.Event
) -> None:
    """Serves until SIGTERM or SIGINT, and then in three steps, so that no request fails behind a balancer:
    `/ready` says no and all is served, until the balancer has seen it; new events are refused, and what was
    taken is answered; then the server stops, which closes its connections. A part that failed ends it now.
    """
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    await server.start(bound)
    failing, telling = loop.create_task(failed.wait()), loop.create_task(told.wait())
    await asyncio.wait((failing, telling), return_when=asyncio.FIRST_COMPLETED)
    telling.cancel()
    if not failing.done():
        routes.leave()
        log.info("door.leaving", grace_ms=settings.grace_ms)
        await asyncio.wait((failing,), timeout=settings.grace_ms / 1000)
        routes.drain()
        ends = time.monotonic() + settings.deadline_ms / 1000 + _COMMIT_SECONDS
        while routes.in_flight and time.monotonic() < ends:
            await asyncio.sleep(_LOOK_SECONDS)
        await asyncio.sleep(_LAST_BYTES_SECONDS)
    failing.cancel()
    server.stop()
