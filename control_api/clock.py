"""The one clock of the service."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The time now, in whole milliseconds as every record has them."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
