"""Blocks of several partitions that are ready at the same moment become one insert."""

import asyncio
from collections.abc import Mapping

from aggregator.domain.blocks import Block
from aggregator.domain.rows import Lines
from aggregator.event_store import EventStore, require_own_epoch

_COMPANY_SECONDS = 0.05
"""What a block waits for others: stores begin at the same moments (store.py), and fix their blocks in the
ledger first."""
_MOST_BYTES = 16 * 1024 * 1024
"""Of an insert with several blocks, which is put together in memory."""


class _Insert:
    """One that is still to be sent, or is being sent: at most one block of each partition."""

    def __init__(self) -> None:
        self.blocks: dict[int, tuple[Block, Lines]] = {}
        self.size = 0
        self.is_under_way = False
        self.sent: asyncio.Task[Mapping[int, int]]

    def has_room(self, block: Block, rows: Lines) -> bool:
        return block.partition not in self.blocks and self.size + len(rows.content) <= _MOST_BYTES


class JointInserts:
    """One for all partitions of a process.

    An insert costs ClickHouse the same files, parts and merges whether it brings one block or one of each
    partition. Its blocks share its outcome: who has no answer looks at its own block afterwards, and mends it
    alone.
    """

    def __init__(self, events: EventStore) -> None:
        self._events = events
        self._next: _Insert | None = None
        self._sending: set[asyncio.Task[Mapping[int, int]]] = set()

    async def insert(self, block: Block, rows: Lines) -> None:
        """Stores a block's rows, which are not none, for the first time; raises as `EventStore.insert` does.

        When cancelled before it is sent it is not sent. Later it may be stored all the same: the others that
        it was put together with are.
        """
        insert = self._next
        if insert is None or not insert.has_room(block, rows):
            insert = self._next = _Insert()
            insert.sent = asyncio.create_task(self._send(insert))
            self._sending.add(insert.sent)
            insert.sent.add_done_callback(self._done)
        insert.blocks[block.partition] = (block, rows)
        insert.size += len(rows.content)
        try:
            newer = await asyncio.shield(insert.sent)
        except asyncio.CancelledError:
            if not insert.is_under_way:
                del insert.blocks[block.partition]
            raise
        finally:
            del insert  # which an error's traceback would keep, and so itself
        require_own_epoch(block, newer)

    async def close(self) -> None:
        """Gives up what is being sent: it may arrive."""
        self._next = None
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    async def _send(self, insert: _Insert) -> Mapping[int, int]:
        await asyncio.sleep(_COMPANY_SECONDS)
        if self._next is insert:
            self._next = None
        insert.is_under_way = True
        blocks = list(insert.blocks.values())
        del insert
        return await self._events.insert_all(blocks) if blocks else {}

    def _done(self, task: asyncio.Task[Mapping[int, int]]) -> None:
        self._sending.discard(task)
        if not task.cancelled():
            task.exception()  # told to whoever waits, and nobody may
