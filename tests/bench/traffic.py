"""Requests as SDKs send them: ids that are never repeated, many campaigns, mixed types."""

import itertools
import random
import secrets
from collections.abc import Iterator, Sequence

import msgspec

_USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0.0.0 Safari/537.36"
_TYPES = ("IMPRESSION",) * 18 + ("CLICK", "CONVERSION")
_VARIETY = 20_000
"""Events that differ in more than their ids; cut out beforehand, so that the client costs little."""
EVENT_BYTES = 190
"""Of JSON, about."""


class Traffic:
    """An endless run of requests with `batch` events each."""

    def __init__(self, campaigns: Sequence[str], key: str, *, batch: int, path: str = "/v1/events") -> None:
        dice = random.Random(1)  # noqa: S311  choices, not secrets
        self.batch = batch
        self._prefix = secrets.token_hex(4).encode()
        chosen = skewed(campaigns)
        self._tails = itertools.cycle(
            [_tail(next(chosen), dice.choice(_TYPES), dice.randrange(1_000_000)) for _ in range(_VARIETY)]
        )
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: door\r\nX-Write-Key: {key}\r\nContent-Type: application/json\r\n"
            f"User-Agent: {_USER_AGENT}\r\nContent-Length: "
        ).encode()
        self._numbers = itertools.count()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self.batch == 1:
            body = self._event()
        else:
            body = b"[%b]" % b",".join([self._event() for _ in range(self.batch)])
        return b"%b%d\r\n\r\n%b" % (self._head, len(body), body)

    def _event(self) -> bytes:
        number = next(self._numbers)
        return b'{"eventId":"%b-0000-7000-8000-%012x"%b' % (self._prefix, number, next(self._tails))


def skewed(campaigns: Sequence[str]) -> Iterator[str]:
    """Campaigns for ever: the n-th is chosen in proportion to 1/n, as audiences are spread (Zipf)."""
    dice = random.Random(2)  # noqa: S311  choices, not secrets
    weights = list(itertools.accumulate(1 / (n + 1) for n in range(len(campaigns))))
    while True:
        yield from dice.choices(campaigns, cum_weights=weights, k=10_000)


def _tail(campaign: str, event_type: str, visitor: int) -> bytes:
    fields = {
        "campaignId": campaign,
        "type": event_type,
        "visitorId": f"v-{visitor:06}",
        "channel": "WEB",
        "variant": "a",
        "placement": "top",
    }
    return b"," + msgspec.json.encode(fields)[1:]
