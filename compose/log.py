"""How the stack's own processes log: JSON, one line an event."""

import contextlib
import sys
from typing import Any

import structlog


class _Lines(structlog.PrintLogger):
    """Standard output may be a file on a full disk: a line that can't be written ends nobody's work."""

    def msg(self, message: str) -> None:
        with contextlib.suppress(OSError):
            super().msg(message)

    log = debug = info = warn = warning = fatal = failure = err = error = critical = exception = msg


def configure() -> None:
    """JSON lines on standard output, with level and time."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=_lines,
        cache_logger_on_first_use=True,
    )


def _lines(*_: Any) -> _Lines:
    return _Lines(sys.stdout)
