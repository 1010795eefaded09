"""Looks again at what is stored: a while after an insert, after a restart of ClickHouse, and daily at all."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import msgspec
import structlog

from aggregator import metrics
from aggregator.block_ledger import BlockLedger
from aggregator.domain.blocks import Block
from aggregator.errors import StoreError
from aggregator.event_store import EventStore
from aggregator.postgres import Claim
from aggregator.retry import TRANSIENT
from aggregator.store_limits import StoreLimits

log = structlog.get_logger(__name__)

_EVERY_SECONDS = 5.0
_AT_ONCE = 1_000
"""Blocks of one query: it reads the projection's granules of their range, not one for each block."""
_CLOCK_SECONDS = 3
"""ClickHouse tells its start exact to a second or two."""


class Verification:
    """The blocks of one claimed partition. `store_again` mends one that differs; it is called with `storing`
    held, so that no block changes while it is looked at."""

    def __init__(
        self,
        claim: Claim,
        blocks: BlockLedger,
        events: EventStore,
        limits: StoreLimits,
        storing: asyncio.Lock,
        store_again: Callable[[Block], Awaitable[None]],
    ) -> None:
        self._claim = claim
        self._blocks = blocks
        self._events = events
        self._limits = limits
        self._storing = storing
        self._store_again = store_again
        self._started_at: int | None = None

    async def run(self) -> None:
        """Runs until cancelled; FencedError under a new owner."""
        while True:
            await asyncio.sleep(min(_EVERY_SECONDS, self._limits.verify_after_seconds))
            try:
                await self._young()
                if await self._blocks.comparison_is_due(self._claim, self._limits.compare_all_every_seconds):
                    await self._all()
            except TRANSIENT as error:
                tell = log.error if isinstance(error, StoreError) else log.warning
                tell("store.verify_later", partition=self._claim.partition, error=str(error))

    async def _young(self) -> None:
        """Blocks that were stored a while ago and not seen since; whatever their age after a restart."""
        started_at = await self._events.started_at()
        restarted = self._started_at is not None and started_at > self._started_at + _CLOCK_SECONDS
        age = timedelta(seconds=0 if restarted else self._limits.verify_after_seconds)
        while blocks := await self._blocks.blocks_not_verified(self._claim, age, _AT_ONCE):
            await self._compare(blocks)
            if len(blocks) < _AT_ONCE:
                break
        # After that, so that a restart is not forgotten when ClickHouse goes away in between.
        self._started_at = started_at

    async def _all(self) -> None:
        """Every block that the ledger still has: parts can be lost long after they were verified."""
        after, compared = -1, 0
        while blocks := await self._blocks.blocks_verified(self._claim, after, _AT_ONCE):
            await self._compare(blocks)
            after, compared = blocks[-1].block, compared + len(blocks)
        await self._blocks.mark_compared(self._claim)
        log.info("store.all_compared", partition=self._claim.partition, blocks=compared)

    async def _compare(self, blocks: Sequence[Block]) -> None:
        async with self._storing:
            verdicts = await self._events.verify_all(blocks)
            exact = [block for block, verdict in zip(blocks, verdicts, strict=True) if verdict.exact]
            await self._blocks.mark_verified(exact, self._claim.epoch)
            metrics.blocks_verified.inc(len(exact))
            for block, verdict in zip(blocks, verdicts, strict=True):
                if not verdict.exact:
                    log.error("store.block_differs", **msgspec.structs.asdict(block))
                    await self._store_again(block)
