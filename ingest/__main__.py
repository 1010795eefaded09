"""`python -m ingest`: one door, one process; several of them share a port."""

import errno
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TextIO, cast

import structlog
import uvloop

from ingest.app import run
from ingest.errors import SettingError
from ingest.settings import load

_DISK_FAULTS = {errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO}


class _LossyOutput:
    """Standard output, without its errors: a disk that is full of logs must not end the door."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            sys.stdout.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stdout.flush()


def _configure_logging() -> None:
    output = cast("TextIO", _LossyOutput())
    logging.basicConfig(level=logging.WARNING, stream=output)
    # Its reports of a broker that is away repeat ours, many times a second.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(output),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )


def _require_folder(state: Path) -> None:
    """Raises SettingError where no snapshot could be kept: the door would start without one, unnoticed.

    A disk that is full or has failed is another matter: the door serves without it while Kafka answers.
    """
    try:
        state.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=state):
            pass
    except OSError as error:
        if error.errno in _DISK_FAULTS:
            return  # the spool tells of it, again and again
        raise SettingError(f"FLIGHTLINE_STATE must be a folder to write to: {error}.") from None


def main() -> None:
    """Runs until told to stop. A setting that is wrong ends it with one sentence."""
    try:
        settings = load(os.environ)
        _require_folder(settings.state)
        _configure_logging()
        uvloop.run(run(settings))
    except SettingError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
