"""`python -m aggregator`: one worker of the consumer group."""

import logging
import socket
import sys
from pathlib import Path
from tempfile import NamedTemporaryFile

import faust
import structlog

from aggregator.app import Aggregator
from aggregator.errors import SettingsError
from aggregator.settings import Settings, load
from schemas.process import allow_open_files

log = structlog.get_logger(__name__)

_OPEN_FILES = 65_536
"""Each sealed segment of seen ids is an open file for a day, for Python's mmap keeps it open: 34,000 of 2^18
ids at 104,000 events a second, the fastest that was measured (docs/PERFORMANCE.md, row 9); connections and
young segments come on top."""


def main() -> None:
    """Runs until SIGTERM; exits with 1 when an agent fails, so that a supervisor starts it again."""
    try:
        settings = load()
        _require_folder(settings.state)
        _require_free(settings.metrics_bind)
    except SettingsError as error:
        sys.exit(f"aggregator: {error}")
    configure_logging(settings)
    _allow_files()
    aggregator = Aggregator(settings)
    worker = faust.Worker(aggregator.app, loglevel=settings.log_level, redirect_stdouts=False, quiet=True)
    worker.execute_from_commandline()


def _allow_files() -> None:
    allowed = allow_open_files(_OPEN_FILES)
    if allowed < _OPEN_FILES:
        log.warning("aggregator.fewer_open_files", wanted=_OPEN_FILES, allowed=allowed)


def _require_folder(state: Path) -> None:
    """Raises SettingsError where the seen ids could not be kept."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=state):
            pass
    except OSError as error:
        raise SettingsError(f"FLIGHTLINE_STATE must be a folder to write to: {error}") from None


def _require_free(bind: str) -> None:
    """Raises SettingsError when the port of the metrics can't be had: Faust would tell it in 50 lines."""
    host, _, port = bind.rpartition(":")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise SettingsError(f"FLIGHTLINE_METRICS_BIND cannot be bound: {error}") from None


def configure_logging(settings: Settings) -> None:
    """One JSON object a line on standard output, for our own loggers."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )


if __name__ == "__main__":
    main()
