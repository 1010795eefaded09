"""A client that retries as SDKs do: the same event ids again until there is an answer."""

import asyncio
import gzip
import random
import time
from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any, Self

import aiohttp
import msgspec

from schemas.process import allow_open_files
from tests.faults.record import Event, promises

_ATTEMPT_S = 6.0
_OPEN_FILES = 16_384
"""Each request that waits has a connection: at 600 a second a pause of two seconds takes more than 1,024."""
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 6.0
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_ANSWERED = frozenset({202, 422})
_json = msgspec.json.Encoder(decimal_format="number")


class Way(StrEnum):
    """How events travel."""

    SINGLE = "single"
    MINIMAL = "minimal"
    BATCH = "batch"
    LINES = "gzipped lines"
    PIXEL = "pixel"


class Result(msgspec.Struct):
    """The door's answer to one event."""

    status: str
    reason: str = ""
    detail: str = ""


class _Results(msgspec.Struct):
    results: list[Result]


_results = msgspec.json.Decoder(_Results)


class SendAgain(Exception):
    """No answer, or one that asks for the same again; `after` seconds when it says so."""

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why)
        self.after = after


class Client:
    """Connections to the door. Some are kept and some are new, so that all doors of a port are met."""

    def __init__(self, url: str, server_key: str, dice: random.Random) -> None:
        self._url = url
        self._key = server_key
        self._dice = dice
        self.retries: dict[str, int] = {}
        """How often what made it send again."""

    async def __aenter__(self) -> Self:
        allow_open_files(_OPEN_FILES)
        timeout = aiohttp.ClientTimeout(total=_ATTEMPT_S)
        self._kept = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0))
        self._new = aiohttp.ClientSession(
            timeout=timeout, connector=aiohttp.TCPConnector(limit=0, force_close=True)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._kept.close()
        await self._new.close()

    async def deliver(self, events: Sequence[Event], way: Way, *, gives_up: bool = False) -> None:
        """Returns when every event has an answer; with `gives_up`, after the first attempt."""
        for event in events:
            event.senders += 1
        try:
            await self._deliver(events, way, gives_up=gives_up)
        finally:
            for event in events:
                event.senders -= 1

    async def _deliver(self, events: Sequence[Event], way: Way, *, gives_up: bool) -> None:
        waiting, pause = list(events), _FIRST_PAUSE_S
        while waiting:
            after = 0.0
            try:
                for event in waiting:
                    event.attempts += 1
                waiting = await self._attempt(waiting, way)
            except SendAgain as why:
                self.retries[str(why)] = self.retries.get(str(why), 0) + 1
                after = why.after
            if gives_up:
                return
            if waiting:
                await asyncio.sleep(max(after, pause) * self._dice.uniform(0.75, 1.25))
                pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def _attempt(self, events: list[Event], way: Way) -> list[Event]:
        """The events that are to be sent again."""
        session = self._new if self._dice.random() < 0.2 else self._kept
        method, path, options = _request(events, way, self._key)
        try:
            async with session.request(method, self._url + path, **options) as response:
                body = await response.read()
        except TimeoutError:
            raise SendAgain("no answer in time") from None
        except (aiohttp.ClientError, OSError) as error:
            raise SendAgain(type(error).__name__) from None
        if response.status in _AGAIN:
            raise SendAgain(str(response.status), float(response.headers.get("Retry-After", 0)))
        return _take(events, way, response.status, body)


def _request(events: list[Event], way: Way, key: str) -> tuple[str, str, dict[str, Any]]:
    headers = {"X-Write-Key": key, "Content-Type": "application/json"}
    if way is Way.PIXEL:
        (event,) = events
        return "GET", "/v1/pixel.gif", {"params": {"key": key, **_parameters(event.body)}}
    if way is Way.LINES:
        headers |= {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
        body = gzip.compress(_json.encode_lines([event.body for event in events]), 1)
    elif way is Way.BATCH:
        body = _json.encode([event.body for event in events])
    else:
        (event,) = events
        body = _json.encode(event.body)
        if way is Way.MINIMAL:
            headers["Prefer"] = "return=minimal"
    return "POST", "/v1/events", {"data": body, "headers": headers}


def _parameters(body: dict[str, Any]) -> dict[str, str]:
    flat = {name: value for name, value in body.items() if not isinstance(value, dict)}
    money = {name: str(value["amount"]) for name, value in body.items() if isinstance(value, dict)}
    return flat | money


def _take(events: list[Event], way: Way, status: int, body: bytes) -> list[Event]:
    now = time.monotonic()
    if status == 204 or (way is Way.PIXEL and status == 200):
        for event in events:
            event.answer(now, "")
        return []
    if status not in _ANSWERED or way is Way.PIXEL:
        for event in events:
            event.refusals.append(f"{status} {body[:200]!r}")
        return []
    results = _results.decode(body).results
    assert len(results) == len(events), f"{len(results)} results for {len(events)} events"
    again = []
    for event, result in zip(events, results, strict=True):
        if promises(result.status):
            event.answer(now, result.status, result.reason)
        elif result.status == "retry":
            again.append(event)
        else:
            event.refusals.append(f"{result.reason} {result.detail}")
    return again


def stated(micros: int) -> dict[str, Any]:
    """A cost as an event states it."""
    return {"amount": Decimal(micros).scaleb(-6)}
