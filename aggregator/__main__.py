"""`python -m aggregator`: one worker of the consumer group."""

import logging
import sys

import faust
import structlog

from aggregator.app import Aggregator
from aggregator.errors import SettingsError
from aggregator.settings import Settings, load


def main() -> None:
    """Runs until SIGTERM; exits with 1 when an agent fails, so that a supervisor starts it again."""
    try:
        settings = load()
    except SettingsError as error:
        sys.exit(f"aggregator: {error}")
    configure_logging(settings)
    settings.state.mkdir(parents=True, exist_ok=True)
    aggregator = Aggregator(settings)
    worker = faust.Worker(aggregator.app, loglevel=settings.log_level, redirect_stdouts=False, quiet=True)
    worker.execute_from_commandline()


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
