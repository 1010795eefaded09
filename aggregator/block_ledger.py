"""The ledger's blocks: which billed batches become one insert of ClickHouse, and what is known of it."""

from datetime import timedelta

import asyncpg
import msgspec

from aggregator.domain.blocks import Block
from aggregator.postgres import Claim, fetch, require_owner
from sql.load import postgres_queries


class BlockLedger:
    """Blocks in Postgres. All methods raise what postgres.RETRYABLE lists when it is away or busy."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._sql = postgres_queries("ledger")

    async def fix_block(self, block: Block) -> None:
        """Fixes which batches a block is made of; FencedError when another owner went on."""
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

    async def mark_verified(self, block: Block) -> None:
        """Says that ClickHouse was seen to hold exactly the block."""
        async with self._pool.acquire() as connection:
            await self._sql.mark_verified(
                connection, partition=block.partition, incarnation=block.incarnation, block=block.block
            )

    async def blocks_not_stored(self, claim: Claim) -> list[Block]:
        """Blocks that were fixed and are not known to be in ClickHouse, in order."""
        async with self._pool.acquire() as connection:
            rows = await fetch(
                self._sql.blocks_not_stored(
                    connection, partition=claim.partition, incarnation=claim.incarnation
                )
            )
        return [Block(**dict(row)) for row in rows]

    async def blocks_not_verified(self, claim: Claim, age: timedelta, most: int) -> list[Block]:
        """At most `most` blocks that were stored at least `age` ago and not verified since."""
        async with self._pool.acquire() as connection:
            rows = await fetch(
                self._sql.blocks_not_verified(
                    connection,
                    partition=claim.partition,
                    incarnation=claim.incarnation,
                    age_seconds=age.total_seconds(),
                    most=most,
                )
            )
        return [Block(**dict(row)) for row in rows]
