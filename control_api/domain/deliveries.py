"""What becomes of a delivery after an attempt."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum

import msgspec

_S, _M, _H = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
PAUSES = (5 * _S, 1 * _M, 5 * _M, 30 * _M, 2 * _H, 5 * _H, 8 * _H, 8 * _H)
"""Between attempts, about a day in all (Standard Webhooks, "Deliverability and reliability")."""

_JITTER = 0.2
_LONGEST_RETRY_AFTER = timedelta(hours=24)
_OK = range(200, 300)
_GONE_STATUS = 410


class DeliveryState(StrEnum):
    """PENDING until it is delivered, or given up: those are the dead letters."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    DEAD = "DEAD"


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """An event for a subscriber. `payload` is its CloudEvent, `response` how the last answer began."""

    id: str
    webhook_id: str
    organization_id: str
    event_id: str
    event_type: str
    subject: str
    payload: bytes
    state: DeliveryState = DeliveryState.PENDING
    attempts: int = 0
    next_attempt_at: datetime
    last_attempt_at: datetime | None = None
    response_status: int | None = None
    response: str | None = None
    error: str | None = None
    milliseconds: int | None = None
    created_at: datetime
    delivered_at: datetime | None = None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an attempt: an answer's status and beginning, or what went wrong instead."""

    status: int | None = None
    text: str | None = None
    error: str | None = None
    retry_after: str | None = None
    milliseconds: int = 0


class Outcome(msgspec.Struct, frozen=True):
    """What is to become of the delivery; `gone` says that its subscriber wants no more."""

    state: DeliveryState
    next_attempt_at: datetime
    gone: bool = False


def outcome(attempts: int, reply: Reply, now: datetime, chance: float) -> Outcome:
    """After this many attempts. `chance` (0 to 1) lengthens the pause, so that not all come back at once."""
    if reply.status in _OK:
        return Outcome(DeliveryState.DELIVERED, now)
    if reply.status == _GONE_STATUS:
        return Outcome(DeliveryState.DEAD, now, gone=True)
    if attempts > len(PAUSES):
        return Outcome(DeliveryState.DEAD, now)
    pause = PAUSES[max(attempts, 1) - 1] * (1 + _JITTER * chance)
    asked = asked_pause(reply.retry_after, now) if reply.retry_after else timedelta()
    return Outcome(DeliveryState.PENDING, now + max(pause, asked))


def asked_pause(retry_after: str, now: datetime) -> timedelta:
    """What Retry-After asks for, seconds or a date; a day at most, and nothing where it cannot be read."""
    text = retry_after.strip()
    if text.isascii() and text.isdecimal():
        seconds = min(int(text[:9]), _LONGEST_RETRY_AFTER.total_seconds())
        return timedelta(seconds=seconds)
    try:
        until = parsedate_to_datetime(text)
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        return min(max(until - now, timedelta()), _LONGEST_RETRY_AFTER)
    except (ValueError, TypeError, OverflowError):
        return timedelta()
