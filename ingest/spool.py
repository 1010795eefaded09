"""The spool: what keeps the door's promises while Kafka is away.

Requests share commits: while one is on its way to the disk, the next collects. The file belongs to a thread,
so that the loop waits for no disk.
"""

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from ingest import metrics
from ingest.errors import SpoolCorrupt, SpoolRefused
from ingest.spool_file import Record, Totals
from ingest.spool_slots import Slot
from ingest.spool_store import SpoolStore

log = structlog.get_logger(__name__)

_Result = TypeVar("_Result")

_MAX_COMMIT_BYTES = 4 * 1024 * 1024
_RECHECK_SECONDS = 1.0
_FULL = "the spool is full"
_SLOW = "the spool's disk does not answer"
_Entry = tuple[int, bytes, asyncio.Future[None]]
"""Events, their lines, and who waits for them."""


class Spool:
    """Keeps records until Kafka has them: at most `max_bytes` of file, beyond that it refuses new ones.

    Whatever is wrong with the disk, the door lives: `refusal` says what, and once a second it is tried again.
    """

    def __init__(self, claim: Callable[[], Slot], *, max_bytes: int, commit_seconds: float) -> None:
        self._store = SpoolStore(claim)
        self._max_bytes = max_bytes
        self._commit_seconds = commit_seconds
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        self._queued: list[_Entry] = []
        self._queued_bytes = 0
        self._wake = asyncio.Event()
        self._filled = asyncio.Event()
        self._fault = ""
        self._began: deque[float] = deque()
        """When each call that is under way was given to the thread, which takes them in order."""
        self._unreadable = False
        self._held = Totals()

    @property
    def held(self) -> Totals:
        """What it holds, as of the last commit."""
        return self._held

    @property
    def fault(self) -> str:
        """What is wrong with its disk; empty when nothing is."""
        return self._fault

    @property
    def refusal(self) -> str:
        """Why it takes no records at the moment; empty when it does."""
        return self._fault or (_SLOW if self._hangs else _FULL if self._is_full(0) else "")

    @property
    def drains(self) -> bool:
        """Whether it has something to send, and can: its disk neither refuses to be read nor hangs."""
        return self._held.records > 0 and not self._unreadable and not self._hangs

    async def filled(self) -> None:
        """Returns while it holds records, waits otherwise."""
        await self._filled.wait()

    async def open(self) -> None:
        """Opens its file; what is wrong with it is said by `fault` and not raised."""
        await self._write(self._store.open)

    async def append(self, events: int, lines: bytes) -> None:
        """Returns when the record of so many events is on the disk. Raises SpoolRefused."""
        if self._fault:
            raise self._refused("unwritable", self._fault)
        if self._hangs:
            raise self._refused("slow", _SLOW)
        if self._is_full(len(lines)):
            raise self._refused("full", _FULL)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (events, lines, future)
        self._queued.append(entry)
        self._queued_bytes += len(lines)
        self._wake.set()
        try:
            async with asyncio.timeout(self._commit_seconds):
                await future
        except TimeoutError:
            self._withdraw(entry)
            raise self._refused("slow", _SLOW) from None
        metrics.SPOOLED_EVENTS.inc(events)

    async def oldest(self, max_bytes: int) -> list[Record]:
        """The oldest records, in order, up to about so many bytes; none when they can't be read."""
        try:
            records = await self._in_thread(lambda: self._store.oldest(max_bytes))
        except (OSError, sqlite3.Error, SpoolCorrupt) as error:
            log.warning("spool.unreadable", error=str(error))
            self._unreadable = True
            return []
        self._unreadable = False
        return records

    async def forget(self, sent: Sequence[Record]) -> None:
        """Deletes records that Kafka has, which `oldest` gave last."""
        await self._write(lambda: self._store.forget(sent))

    async def run(self) -> None:
        """Commits what is queued, and tries a disk that refused, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_RECHECK_SECONDS if self._fault else None):
                    await self._wake.wait()
            except TimeoutError:
                await self.open()
            self._wake.clear()
            while self._queued:
                await self._commit(self._next_commit())

    async def close(self, *, remove: bool = False) -> None:
        """Gives the file back to whoever comes next, or removes it (when it is empty)."""
        closing = self._store.remove if remove else self._store.close
        await self._write(closing)
        self._thread.shutdown(wait=False)

    @property
    def _hangs(self) -> bool:
        return bool(self._began) and time.monotonic() - self._began[0] > self._commit_seconds

    def _withdraw(self, refused: _Entry) -> None:
        """Nobody waits for it any more, so it takes no room, unless it is on its way to the disk."""
        for index, entry in enumerate(self._queued):  # who waits longest stands first
            if entry is refused:
                del self._queued[index]
                self._queued_bytes -= len(entry[1])
                return

    def _is_full(self, more: int) -> bool:
        return self._held.used_bytes + self._queued_bytes + more > self._max_bytes

    def _refused(self, reason: str, sentence: str) -> SpoolRefused:
        metrics.SPOOL_REFUSED.labels(reason).inc()
        return SpoolRefused(sentence)

    def _next_commit(self) -> list[_Entry]:
        size = count = 0
        for _, lines, _ in self._queued:
            if count and size + len(lines) > _MAX_COMMIT_BYTES:
                break
            size += len(lines)
            count += 1
        batch, self._queued = self._queued[:count], self._queued[count:]
        return batch

    async def _commit(self, batch: list[_Entry]) -> None:
        records = [(events, lines) for events, lines, _ in batch]
        started = time.perf_counter()
        await self._write(lambda: self._store.write(records))
        metrics.SPOOL_COMMIT_SECONDS.observe(time.perf_counter() - started)
        self._queued_bytes -= sum(len(lines) for _, lines in records)
        for _, _, future in batch:
            if future.done():
                continue
            if self._fault:
                future.set_exception(self._refused("unwritable", self._fault))
            else:
                future.set_result(None)

    async def _write(self, act: Callable[[], None]) -> None:
        """Does what the disk may refuse; if it does, that is `fault` until a later write succeeds."""
        fault = ""
        try:
            await self._in_thread(act)
        except (OSError, sqlite3.Error, SpoolCorrupt) as error:
            fault = f"the spool cannot be written: {error}"
        if fault and fault != self._fault:
            log.warning("spool.unwritable", error=fault)
            self._wake.set()
        elif self._fault and not fault:
            log.info("spool.writable")
        self._fault = fault

    async def _in_thread(self, act: Callable[[], _Result]) -> _Result:
        self._began.append(time.monotonic())
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, act)
        finally:
            self._began.popleft()
            self._held = self._store.totals
            if self._held.records > 0:
                self._filled.set()
            else:
                self._filled.clear()
