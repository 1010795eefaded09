"""The ledger's blocks: which billed batches are stored as one, and what is known of it."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import msgspec

from aggregator.domain.blocks import Block
from aggregator.domain.losses import Loss
from aggregator.postgres import Claim, fetch, not_the_owner, require_owner
from sql.load import postgres_queries


class BlockLedger:
    """Blocks in Postgres. All methods raise what postgres.RETRYABLE lists when it is away or busy."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._sql = postgres_queries("ledger")

    async def fix_block(self, block: Block, losses: Sequence[Loss] = ()) -> None:
        """Fixes which batches a block is made of, and what of them it will never have; FencedError when
        another owner went on."""
        async with self._pool.acquire() as connection, connection.transaction():
            changed = await self._sql.fix_blocks_end(
                connection,
                partition=block.partition,
                incarnation=block.incarnation,
                epoch=block.epoch,
                first_offset=block.first_offset,
                next_offset=block.next_offset,
                block=block.block,
            )
            require_owner(changed, block.partition, block.epoch)
            await self._sql.add_block(connection, **msgspec.structs.asdict(block))
            await self._add_losses(connection, block, losses)

    async def amend(self, block: Block, former: Block, losses: Sequence[Loss], owner_epoch: int) -> None:
        """Says that `block` is all that can be had of `former`; what it lacks is kept as lost.

        FencedError when `former` is not what the ledger has, or the partition has another owner.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            changed = await self._sql.amend_block(
                connection,
                owner_epoch=owner_epoch,
                partition=block.partition,
                incarnation=block.incarnation,
                block=block.block,
                former_epoch=former.epoch,
                former_attempt=former.attempt,
                former_hash=former.position_hash,
                epoch=block.epoch,
                attempt=block.attempt,
                event_rows=block.event_rows,
                billed=block.billed,
                position_hash=block.position_hash,
            )
            require_owner(changed, block.partition, owner_epoch)
            await self._add_losses(connection, block, losses)

    async def _add_losses(self, connection: Any, block: Block, losses: Sequence[Loss]) -> None:
        """Keeps what the block will never have, in the transaction that says what it has."""
        if losses:
            await self._sql.add_losses(
                connection,
                partition=block.partition,
                incarnation=block.incarnation,
                block=block.block,
                first_offsets=[loss.first_offset for loss in losses],
                next_offsets=[loss.next_offset for loss in losses],
                event_rows=[loss.event_rows for loss in losses],
                billed=[loss.billed for loss in losses],
            )

    async def new_attempt(self, block: Block) -> None:
        """Says that `block` is about to be inserted as its (epoch, attempt); FencedError for an old owner."""
        async with self._pool.acquire() as connection:
            changed = await self._sql.new_attempt(
                connection,
                partition=block.partition,
                incarnation=block.incarnation,
                block=block.block,
                epoch=block.epoch,
                attempt=block.attempt,
            )
        require_owner(changed, block.partition, block.epoch)

    async def mark_stored(self, block: Block, owner_epoch: int) -> None:
        """Says that ClickHouse has the block; it is verified a while later (`mark_verified`).

        FencedError when `owner_epoch` does not own the partition any more.
        """
        async with self._pool.acquire() as connection:
            changed = await self._sql.mark_stored(
                connection,
                partition=block.partition,
                incarnation=block.incarnation,
                block=block.block,
                owner_epoch=owner_epoch,
            )
        require_owner(changed, block.partition, owner_epoch)

    async def find_block(self, block: Block) -> Block | None:
        """The block as the ledger has it, if it has been fixed."""
        async with self._pool.acquire() as connection:
            row = await self._sql.find_block(
                connection, partition=block.partition, incarnation=block.incarnation, block=block.block
            )
        return Block(**dict(row)) if row else None

    async def mark_verified(self, blocks: Sequence[Block], owner_epoch: int) -> None:
        """Says that ClickHouse was seen to hold exactly these blocks of one partition.

        FencedError, and nothing said, when `owner_epoch` does not own the partition any more, or one of them
        has been inserted again. Those whose day the ledger has dropped meanwhile need no word.
        """
        if not blocks:
            return
        named = {
            "partition": blocks[0].partition,
            "owner_epoch": owner_epoch,
            "incarnations": [block.incarnation for block in blocks],
            "blocks": [block.block for block in blocks],
        }
        async with self._pool.acquire() as connection, connection.transaction():
            changed = await self._sql.mark_verified(
                connection,
                **named,
                epochs=[block.epoch for block in blocks],
                attempts=[block.attempt for block in blocks],
            )
            marked = int(changed.rpartition(" ")[2])
            if marked < len(blocks):
                left = await self._sql.blocks_left(connection, **named)
                if not left["owned"] or marked < left["blocks"]:
                    raise not_the_owner(blocks[0].partition, owner_epoch)

    async def blocks_verified(self, claim: Claim, after: int, most: int) -> list[Block]:
        """At most `most` blocks above number `after` that are verified, in order, of all incarnations."""
        async with self._pool.acquire() as connection:
            rows = await fetch(
                self._sql.blocks_verified(connection, partition=claim.partition, after=after, most=most)
            )
        return [Block(**dict(row)) for row in rows]

    async def comparison_is_due(self, claim: Claim, every_seconds: float) -> bool:
        """Whether all blocks were compared longer ago than that."""
        async with self._pool.acquire() as connection:
            return bool(
                await self._sql.comparison_is_due(
                    connection, partition=claim.partition, every_seconds=every_seconds
                )
            )

    async def mark_compared(self, claim: Claim) -> None:
        """Says that all blocks have been compared now; FencedError when the partition has another owner."""
        async with self._pool.acquire() as connection:
            changed = await self._sql.mark_compared(connection, partition=claim.partition, epoch=claim.epoch)
        require_owner(changed, claim.partition, claim.epoch)

    async def log_needed_from(self, partition: int) -> int:
        """The offset below which the log is needed no more; 0 when the partition was never claimed."""
        async with self._pool.acquire() as connection:
            return int(await self._sql.log_needed_from(connection, partition=partition) or 0)

    async def stored_to(self, partition: int) -> int:
        """The offset below which everything is in ClickHouse; -1 while something of an earlier log is not."""
        async with self._pool.acquire() as connection:
            return int(await self._sql.stored_to(connection, partition=partition) or 0)

    async def blocks_not_stored(self, claim: Claim) -> list[Block]:
        """Blocks that were fixed and are not known to be in ClickHouse, in order, of all incarnations."""
        async with self._pool.acquire() as connection:
            rows = await fetch(self._sql.blocks_not_stored(connection, partition=claim.partition))
        return [Block(**dict(row)) for row in rows]

    async def blocks_not_verified(self, claim: Claim, age: timedelta, most: int) -> list[Block]:
        """At most `most` blocks that were stored at least `age` ago and not verified since."""
        async with self._pool.acquire() as connection:
            rows = await fetch(
                self._sql.blocks_not_verified(
                    connection,
                    partition=claim.partition,
                    age_seconds=age.total_seconds(),
                    most=most,
                )
            )
        return [Block(**dict(row)) for row in rows]
