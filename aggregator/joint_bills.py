"""Batches of several partitions that are ready in the same turn of the event loop become one transaction."""

import asyncio
import contextlib
from collections.abc import Sequence

from aggregator.errors import FencedError
from aggregator.ledger import Billed, Due, Ledger

Outcome = Billed | Exception

_MOST_BYTES = 16 * 1024 * 1024
"""Of the log, in a transaction with several batches: the sessions' timeouts are for all that it does."""


class _Transaction:
    def __init__(self) -> None:
        self.due: list[Due] = []
        self.size = 0
        self.waiting = 0
        self.sent: asyncio.Task[Sequence[Outcome]]


class JointBills:
    """One for all partitions of a process.

    Their batches are about the same busy campaigns: in transactions of their own they would wait for each
    other's locks, and each would take as many round trips as one with all of them.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._next: _Transaction | None = None

    async def bill(self, due: Due) -> Billed:
        """Bills a batch; raises as `Ledger.bill` does. Where the partition of one has another owner, all of
        them are billed alone; any other failure is that of all.

        When cancelled, however often, it returns no sooner than the transaction has ended: whoever claims the
        partition next finds what became of the batch.
        """
        transaction = self._next
        if transaction is None or transaction.size + due.batch.size > _MOST_BYTES:
            transaction = self._next = _Transaction()
            transaction.sent = asyncio.create_task(self._send(transaction.due))
            transaction.sent.add_done_callback(_look_at)
        place = len(transaction.due)
        transaction.due.append(due)
        transaction.size += due.batch.size
        transaction.waiting += 1
        try:
            outcome = (await asyncio.shield(transaction.sent))[place]
        except asyncio.CancelledError:
            transaction.waiting -= 1
            if not transaction.waiting:
                transaction.sent.cancel()
            await _end_of(transaction.sent)
            raise
        finally:
            del transaction  # which an error's traceback would keep, and so itself
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _send(self, due: Sequence[Due]) -> Sequence[Outcome]:
        # It runs behind all that are ready in this turn of the event loop: they have joined.
        self._next = None
        try:
            return await self._ledger.bill(due)
        except FencedError as error:
            if len(due) == 1:
                return [error]
        return [await self._alone(each) for each in due]

    async def _alone(self, due: Due) -> Outcome:
        try:
            (billed,) = await self._ledger.bill([due])
        except Exception as error:  # noqa: BLE001  raised by who waits for this batch
            return error
        return billed


async def _end_of(sent: "asyncio.Task[Sequence[Outcome]]") -> None:
    # The sessions' timeouts see to it that there is one.
    while not sent.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({sent})


def _look_at(sent: "asyncio.Task[Sequence[Outcome]]") -> None:
    if not sent.cancelled():
        sent.exception()  # told to whoever waits, and nobody may
