"""Rate limits of users, keys and addresses, in the process: with N replicas, N times as much.

An address is limited only in what comes without a valid token or key: an office behind one address works on.
"""

import math
import time

import msgspec
from limits import RateLimitItem, parse
from limits.strategies import SlidingWindowCounterRateLimiter

from control_api.auth.counters import Counters
from control_api.errors import TooManyRequests

USER, KEY, ADDRESS = "user", "key", "address"


class Taken(msgspec.Struct, frozen=True):
    """What is left of a limit after a request: `remaining` of `quota` in `window` seconds, and more of it in
    `reset` seconds."""

    policy: str
    quota: int
    window: int
    remaining: int
    reset: int

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """As the IETF's draft has them (draft-ietf-httpapi-ratelimit-headers-10)."""
        policy = f'"{self.policy}";q={self.quota};w={self.window}'
        left = f'"{self.policy}";r={self.remaining};t={self.reset}'
        return [(b"ratelimit-policy", policy.encode()), (b"ratelimit", left.encode())]


class Rates:
    """One limit for each user, key and address, such as `6000/minute`."""

    def __init__(self, *, user: str, key: str, address: str) -> None:
        self._items: dict[str, RateLimitItem] = {
            USER: parse(user),
            KEY: parse(key),
            ADDRESS: parse(address),
        }
        self._counters = Counters()
        self._limiter = SlidingWindowCounterRateLimiter(self._counters)

    def take(self, policy: str, who: str) -> tuple[Taken, bool]:
        """Counts a request; what is left, and whether it was within the limit."""
        self._counters.sweep()
        item = self._items[policy]
        within = self._limiter.hit(item, policy, who)
        return self.left(policy, who), within

    def left(self, policy: str, who: str) -> Taken:
        """What is left, without counting."""
        item = self._items[policy]
        stats = self._limiter.get_window_stats(item, policy, who)
        reset = max(1, math.ceil(stats.reset_time - time.time()))
        return Taken(policy, item.amount, item.get_expiry(), stats.remaining, reset)

    def refuse(self, taken: Taken) -> TooManyRequests:
        """What to raise when a limit is used up."""
        return TooManyRequests(
            f"{taken.quota} requests in {taken.window} s are allowed for this {taken.policy}", taken.reset
        )


def is_rate(text: str) -> bool:
    """Whether this is a limit, such as `6000/minute`."""
    try:
        return parse(text).amount > 0
    except ValueError:
        return False
