"""Batches of several partitions that are ready in the same turn of the event loop become one transaction."""

import asyncio
from collections.abc import Sequence

from aggregator.errors import FencedError
from aggregator.ledger import Billed, Due, Ledger

Outcome = Billed | FencedError


class _Transaction:
    def __init__(self) -> None:
        self.due: list[Due] = []
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
        """Bills a batch; raises as `Ledger.bill` does. A batch whose partition has another owner holds up
        none of the others, which share only what is wrong with Postgres.

        When cancelled it returns no sooner than the transaction has ended, as its sessions' timeouts see to:
        whoever claims the partition next finds what became of the batch.
        """
        transaction = self._next
        if transaction is None:
            transaction = self._next = _Transaction()
            transaction.sent = asyncio.create_task(self._send(transaction))
            transaction.sent.add_done_callback(_look_at)
        place = len(transaction.due)
        transaction.due.append(due)
        transaction.waiting += 1
        try:
            outcome = (await asyncio.shield(transaction.sent))[place]
        except asyncio.CancelledError:
            transaction.waiting -= 1
            if not transaction.waiting:
                transaction.sent.cancel()
            await asyncio.wait({transaction.sent})
            raise
        if isinstance(outcome, FencedError):
            raise outcome
        return outcome

    async def _send(self, transaction: _Transaction) -> Sequence[Outcome]:
        # It runs behind all that are ready in this turn of the event loop: they have joined.
        self._next = None
        try:
            return await self._ledger.bill(transaction.due)
        except FencedError as error:
            if len(transaction.due) == 1:
                return [error]
        return [await self._alone(due) for due in transaction.due]

    async def _alone(self, due: Due) -> Outcome:
        try:
            (billed,) = await self._ledger.bill([due])
        except FencedError as error:
            return error
        return billed


def _look_at(sent: "asyncio.Task[Sequence[Outcome]]") -> None:
    if not sent.cancelled():
        sent.exception()  # told to whoever waits, and nobody may
