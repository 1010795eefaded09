"""One client's connection: its requests are read as they come, and answered in their order."""

import asyncio
import time
from collections import deque
from typing import Protocol, cast

from ingest.http.message import CLOSE, Answer, Application, Head, Reading, Request, rendered
from ingest.http.wire import Refused, Wire

_MAX_WAITING = 16
"""Requests that wait for their answers; more are not read before one has it."""
_PARSED_AT_ONCE = 4 * 1024
"""Bytes. What comes with one read could hold ten thousand requests."""
_MOST_DISCARDED = 2 * 1024 * 1024
"""Bytes that nobody wants any more: of a body that was answered early, or after the last answer."""
_LINGER_SECONDS = 1.0
"""For a client to see the last answer while it is still sending: closing at once would destroy it."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Limits(Protocol):
    """Seconds that a client may take."""

    @property
    def head_seconds(self) -> float:
        """For a request's head, and for a silent connection."""

    @property
    def body_seconds(self) -> float:
        """For a request's body, and for reading answers."""


class Host(Protocol):
    """Who keeps the connections."""

    @property
    def application(self) -> Application: ...

    def opened(self, connection: "Connection") -> None:
        """A client has connected."""

    def closed(self, connection: "Connection") -> None:
        """The connection is gone."""


class Connection(asyncio.Protocol):
    """Hands requests to the application, and its answers to the client.

    A request is handed over with its head: it may be answered before its body was read, which is then
    discarded. While too many requests wait, or the client does not read its answers, nothing is parsed.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._application = host.application
        self._loop = asyncio.get_running_loop()
        self._wire = Wire(self)
        self._current: Request | None = None
        self._reading: Reading | None = None
        """Of the request that is being parsed."""
        self._turns: deque[Request] = deque()
        """Requests that wait for their answers, or for those before them."""
        self._left = b""
        """What came in and is not parsed yet."""
        self._since = 0.0
        self._discarded = 0
        self._is_open = False
        self._is_ending = False
        """Nothing is parsed any more."""
        self._is_broken = False
        self._is_choked = False
        self._is_paused = False
        self._reads = True

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._is_open = True
        self._since = self._loop.time()
        self._host.opened(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._is_open = False
        self._turns.clear()
        self._break_off()
        self._wire.close()
        self._left = b""
        self._host.closed(self)

    def data_received(self, data: bytes) -> None:
        if self._is_ending:
            self._discard(len(data))
        elif self._left:
            self._left += data
        else:
            self._parse(data)

    def eof_received(self) -> bool:
        """A client that has sent all it wants may still wait for its answers."""
        self._break_off()
        if not self._turns:
            return False
        self._turns[-1].keeps = False
        self._is_ending = True
        return True

    def pause_writing(self) -> None:
        self._is_choked = True
        self._since = self._loop.time()
        self._pause()

    def resume_writing(self) -> None:
        self._is_choked = False
        self._since = self._loop.time()
        self._pause()

    # What the wire calls.

    def message_begun(self) -> None:
        self._since = self._loop.time()

    def head_read(self, head: Head) -> None:
        """Hands the request over."""
        self._discarded = 0
        if self._is_ending:
            return  # the answer before is the last one
        # Who is told no may leave out the body that it announced, or not: what follows could be either.
        request = Request(self, head, keeps=head.keeps and not head.expects)
        self._turns.append(request)
        self._current = request
        reading = self._application.begin(request)
        if reading is not None and request.answer is None:
            self._reading = reading
            request.keeps = head.keeps
            if head.expects and len(self._turns) == 1:
                self._transport.write(_CONTINUE)

    def body_read(self, piece: bytes) -> None:
        if self._reading is not None:
            self._reading.take(piece)
        else:
            self._discard(len(piece))

    def message_ended(self) -> None:
        self._since = self._loop.time()
        self._current = None
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.complete()
        if self._is_ending and not self._turns:
            self._close()
        elif len(self._turns) >= _MAX_WAITING:
            self._pause()

    # What requests call.

    @property
    def client(self) -> str:
        """Who has the other end, `host:port`."""
        name = self._transport.get_extra_info("peername")
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else ""

    def answered(self, request: Request) -> None:
        """One of the requests has its answer: writes what is at its turn."""
        if request is self._current:
            self._reading = None  # what is left of its body is discarded
        turns = self._turns
        ready: list[bytes] = []
        while turns and (answer := turns[0].answer) is not None:
            ready.append(answer)
            if not turns.popleft().keeps:
                self._is_ending = True
                turns.clear()
        if not ready or not self._is_open:
            return
        self._since = self._loop.time()
        self._transport.write(ready[0] if len(ready) == 1 else b"".join(ready))
        if self._is_ending and not turns:
            self._end()
        elif self._is_paused:
            self._pause()

    # What the server calls.

    def check(self, now: float, limits: Limits) -> None:
        """Ends what takes too long; `now` as the loop's clock has it."""
        waited = now - self._since
        if self._transport.is_closing() or self._is_choked:
            if waited > limits.body_seconds:
                self._transport.abort()  # its client does not read what is to be sent before
        elif self._is_ending and not self._turns:
            if waited > _LINGER_SECONDS:
                self._close()
        elif self._wire.in_body:
            if waited > limits.body_seconds and not self._is_paused:
                self._end_slow_body()
        elif not self._turns and waited > limits.head_seconds:
            self._close()

    def dismiss(self, answer: Answer) -> None:
        """Answers before anything was asked, and closes at once: in a flood there is no room to linger."""
        self._is_ending = True
        self._application.refused(answer.status)
        self._transport.write(rendered(answer, int(time.time()), CLOSE[1]))
        self._close()

    def close(self) -> None:
        """Closes the connection, whatever it waits for; what is written already is sent."""
        self._close()

    # Reading.

    def _parse(self, data: bytes) -> None:
        """A little at a time: after each it may have to stop."""
        at, view = 0, memoryview(data)
        while at < len(data):
            if self._is_ending:
                self._discard(len(data) - at)
                return
            if self._is_paused:
                self._left = data[at:]
                return
            try:
                at += self._wire.feed(view[at : at + _PARSED_AT_ONCE])
            except Refused as refused:
                self._refuse(refused.answer)
                return

    def _pause(self) -> None:
        """Goes on parsing, or not, as things are now."""
        is_stuffed = self._discarded > _MOST_DISCARDED
        self._is_paused = self._is_choked or is_stuffed or len(self._turns) >= _MAX_WAITING
        if not self._is_open or self._transport.is_closing():
            return
        if self._is_paused and self._reads:
            self._reads = False
            self._transport.pause_reading()
        elif not self._is_paused and not self._reads:
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Parses what was left, and reads again if that does not take too much."""
        left, self._left = self._left, b""
        if left and self._is_open:
            self._parse(left)
        if self._is_open and not self._is_paused and not self._reads and not self._transport.is_closing():
            self._reads = True
            self._transport.resume_reading()

    def _discard(self, size: int) -> None:
        """Of a client that is still sending what nobody wants. It gets the answers that it waits for."""
        self._discarded += size
        if self._discarded > _MOST_DISCARDED:
            self._is_ending = True
            self._pause()
            if not self._turns:
                self._close()

    # Ending.

    def _end(self) -> None:
        """The last answer is written."""
        if self._wire.in_message or self._is_broken:
            self._transport.write_eof()
            self._pause()
        else:
            self._close()

    def _close(self) -> None:
        self._since = self._loop.time()
        self._transport.close()

    def _break_off(self) -> None:
        """The request that is being parsed will not be whole."""
        current, self._current = self._current, None
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.broke_off()
        if current is not None and current.answer is None and current in self._turns:
            self._turns.remove(current)

    def _end_slow_body(self) -> None:
        reading, self._reading = self._reading, None
        self._is_ending = True
        if reading is not None:
            if self._current is not None:
                self._current.keeps = False
            reading.too_slow()
        elif not self._turns:
            self._end()

    def _refuse(self, answer: Answer) -> None:
        """The bytes make no sense any more: what was understood is answered, then this, then nothing."""
        if self._is_ending:
            return
        self._break_off()
        self._is_ending = self._is_broken = True
        self._discarded = 0
        self._application.refused(answer.status)
        last = Request(self, Head(), keeps=False)
        self._turns.append(last)
        last.respond(answer)
