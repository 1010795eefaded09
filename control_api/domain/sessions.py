"""Refresh tokens: each is used once, and what a second use of one means."""

from datetime import datetime, timedelta
from enum import Enum, auto

import msgspec

ACCESS_LIFETIME = timedelta(minutes=10)
SESSION_LIFETIME = timedelta(days=30)
AT_ONCE = timedelta(seconds=10)
"""Two windows of one browser, or a client that repeats what timed out."""
LOST = timedelta(hours=1)
"""So late a client may still find that it never got its answer: a laptop that was closed over it."""


class Verdict(Enum):
    """What a refresh token that was presented is good for."""

    ROTATE = auto()
    """Its first use."""
    SAME_AGAIN = auto()
    """Used a moment ago, and nobody has gone on with its successor: the same successor again."""
    ANEW = auto()
    """Used some time ago, but its successor never was: that answer was lost. Its successor is withdrawn, so
    that a thief who has it, or who is asking now, is found at the next use of the other one."""
    REUSED = auto()
    """Somebody has gone on from here already: one of the two has stolen it, and nobody knows which."""


class RefreshToken(msgspec.Struct, frozen=True, kw_only=True):
    """A refresh token as it is kept. `salt` is what its successor was made with; None when it has none.
    `went_on`: its successor was used."""

    used_at: datetime | None = None
    salt: bytes | None = None
    successor: bytes | None = None
    went_on: bool = False


def judge(token: RefreshToken, now: datetime) -> Verdict:
    """What to do about a refresh token of a session that is open."""
    if token.used_at is None:
        return Verdict.ROTATE
    since = now - token.used_at
    if token.salt is None or token.went_on or since > LOST:
        return Verdict.REUSED
    return Verdict.SAME_AGAIN if since <= AT_ONCE else Verdict.ANEW
