"""A TCP proxy that can be told to be slow, to reset its connections, or to go silent."""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Coroutine
from enum import StrEnum
from typing import Any, Self, TypeVar

from compose.layout import HOST

_T = TypeVar("_T")
_CHUNK = 65_536
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends a reset, and what was not sent is lost."""


class Mode(StrEnum):
    """What becomes of the bytes."""

    PASS = "passes"
    SLOW = "is slow"
    SILENT = "is half open"
    """Nothing comes through, and nobody is told: connections stay open, new ones are taken."""
    REFUSE = "refuses"
    """Each new connection is reset at once."""


class Proxy:
    """Listens on `port` of the loopback interface, connects to `target`, in a thread with a loop of its own.

    Use as a context manager. What it is told takes effect at once, also for connections that are open.
    """

    def __init__(self, port: int, target: int, *, latency_s: float = 0.05) -> None:
        self.port = port
        self._target = target
        self._latency_s = latency_s
        self._mode = Mode.PASS
        self._changed = asyncio.Event()
        self._open: set[asyncio.StreamWriter] = set()
        self.passed = 0
        """Bytes, in both directions."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy {self.port}", daemon=True)
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._serve, HOST, self.port))
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def be(self, mode: Mode) -> None:
        """Behaves so from now on."""
        self._call(self._be(mode))

    def reset_all(self) -> int:
        """Resets every open connection, in both directions; returns how many there were."""
        return self._call(self._reset_all())

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _be(self, mode: Mode) -> None:
        self._mode = mode
        self._changed.set()
        self._changed = asyncio.Event()

    async def _reset_all(self) -> int:
        writers = list(self._open)
        for writer in writers:
            _reset(writer)
        return len(writers) // 2

    async def _end(self) -> None:
        self._server.close()
        await self._reset_all()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._until_not_silent()
        if self._mode is Mode.REFUSE:
            _reset(writer)
            return
        try:
            there, onward = await asyncio.open_connection(HOST, self._target)
        except OSError:
            _reset(writer)
            return
        both = {writer, onward}
        self._open |= both
        try:
            await asyncio.gather(self._pump(reader, onward), self._pump(there, writer))
        finally:
            self._open -= both
            for each in both:
                each.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                await self._until_not_silent()
                if self._mode is Mode.SLOW:
                    await asyncio.sleep(self._latency_s * random.uniform(0.5, 1.5))  # noqa: S311
                self.passed += len(chunk)
                writer.write(chunk)
                await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()

    async def _until_not_silent(self) -> None:
        while self._mode is Mode.SILENT:
            await self._changed.wait()


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
