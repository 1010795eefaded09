"""Clients of a door: as fast as it answers (closed loop), or at a rate, whatever it does (open loop).

Each waits for all of its answers, so that what was promised is known to the event.
"""

import asyncio
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from typing import cast

from tests.bench.figures import share

_ACCEPTED = b'"status":"accepted"'
_DRAIN_SECONDS = 60.0
_TICK_SECONDS = 0.001
"""The open loop sends what is due so often: up to so much is added to what its users would feel."""


class Answers:
    """What came back. `seconds` of each request, from when it was to be sent; `late`: how much later it was
    sent, because this client was busy or no connection was free."""

    def __init__(self) -> None:
        self.requests = 0
        self.events = 0
        self.refused = 0
        """Requests that were not answered with all of their events accepted."""
        self.broken = 0
        """Requests whose connection was lost before the answer."""
        self.seconds = array("d")
        self.late = array("d")

    def percentile_ms(self, part: float) -> float:
        """The latency that this part of the requests did not exceed."""
        return share(sorted(self.seconds), part) * 1e3

    @property
    def late_ms(self) -> float:
        """The p99 of what this client itself was late by."""
        return share(sorted(self.late), 0.99) * 1e3 if self.late else 0.0

    def require_whole(self) -> None:
        """RuntimeError when the door refused something, which no bench here wants."""
        if self.refused or self.broken:
            raise RuntimeError(f"{self.refused} requests were refused, {self.broken} not answered")


class Connection(asyncio.Protocol):
    """One request at a time. `on_free` is called when the next may be sent."""

    def __init__(self, batch: int, answers: Answers, on_free: Callable[["Connection"], None]) -> None:
        self._batch = batch
        self._answers = answers
        self._on_free = on_free
        self._received = b""
        self._due = 0.0
        self.is_waiting = False
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes, due: float) -> None:
        """`due`: the moment (perf_counter) from which on the answer is waited for."""
        self._due = due
        self.is_waiting = True
        self._transport.write(request)

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data if self._received else data
        if left_of(received) > 0:
            return
        self._received = b""
        self.is_waiting = False
        answers = self._answers
        answers.seconds.append(time.perf_counter() - self._due)
        answers.requests += 1
        accepted = received.count(_ACCEPTED)
        answers.events += accepted
        answers.refused += accepted != self._batch or not received.startswith(b"HTTP/1.1 202")
        self._on_free(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._answers.broken += self.is_waiting
        self.is_waiting = False
        if not self.closed.done():
            self.closed.set_result(error)


def left_of(received: bytes) -> int:
    """How many bytes of an answer have not come, one at least while its head is not there; one without a
    Content-Length has no body."""
    head = received.find(b"\r\n\r\n")
    if head < 0:
        return 1
    length = received[:head].lower().find(b"content-length: ")  # not of the body: a list has a megabyte
    if length < 0:
        return head + 4 - len(received)
    end = received.find(b"\r\n", length)
    return head + 4 + int(received[length + 16 : end]) - len(received)


async def closed_loop(
    address: tuple[str, int], requests: Iterator[bytes], *, batch: int, connections: int, seconds: float
) -> Answers:
    """Each connection sends its next request when the answer to its last has come."""
    answers = Answers()
    until = 0.0

    def go_on(connection: Connection) -> None:
        now = time.perf_counter()
        if now < until:
            connection.send(next(requests), now)
        else:
            connection.close()

    opened = [await _open(address, batch, answers, go_on) for _ in range(connections)]
    until = time.perf_counter() + seconds
    for connection in opened:
        go_on(connection)
    async with asyncio.timeout(seconds + _DRAIN_SECONDS):
        await asyncio.gather(*(connection.closed for connection in opened))
    return answers


async def open_loop(
    address: tuple[str, int],
    requests: Iterator[bytes],
    *,
    batch: int,
    rate: float,
    seconds: float,
    connections: int = 512,
) -> Answers:
    """`rate` requests a second, evenly, whether the door answers or not.

    A request that finds no connection free waits for one, and its time runs: a door that pauses is measured
    as its users feel it.
    """
    answers = Answers()
    free: deque[Connection] = deque()
    opened = [await _open(address, batch, answers, free.append) for _ in range(connections)]
    free.extend(opened)
    started = time.perf_counter()
    offered, total = 0, int(rate * seconds)
    while offered < total:
        now = time.perf_counter()
        due = min(total, int((now - started) * rate) + 1)
        while offered < due and free:
            connection = free.popleft()
            if not connection.closed.done():
                moment = started + offered / rate
                connection.send(next(requests), moment)
                answers.late.append(now - moment)
                offered += 1
        if not free and all(connection.closed.done() for connection in opened):
            break
        await asyncio.sleep(_TICK_SECONDS)
    async with asyncio.timeout(_DRAIN_SECONDS):
        while any(connection.is_waiting for connection in opened):
            await asyncio.sleep(_TICK_SECONDS)
    for connection in opened:
        connection.close()
    await asyncio.gather(*(connection.closed for connection in opened))
    return answers


async def _open(
    address: tuple[str, int], batch: int, answers: Answers, on_free: Callable[[Connection], None]
) -> Connection:
    _, protocol = await asyncio.get_running_loop().create_connection(
        lambda: Connection(batch, answers, on_free), *address
    )
    return protocol
