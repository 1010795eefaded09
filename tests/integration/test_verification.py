"""What ClickHouse lost or doubled after it was verified is found within a day, and mended from the log."""

from pathlib import Path

import msgspec
import pytest

from aggregator.block_ledger import BlockLedger
from aggregator.domain.blocks import Block
from aggregator.errors import FencedError
from aggregator.ledger import Ledger
from aggregator.postgres import connect_pool
from tests.integration.settling import Books, account, impression, owner, until

PARTITION = 1
_MUTATE = "SETTINGS mutations_sync = 2"


async def test_rows_lost_and_doubled_after_their_verification_are_mended(
    books: Books, tmp_path: Path
) -> None:
    campaign = await account(books.ledger)
    await books.log.write(PARTITION, *[[impression(campaign, str(n))] for n in range(20)])
    async with owner(*books.engines, tmp_path, store_max_rows=4, bill_max_bytes=1) as first:
        await first.bill(PARTITION)
        await until(books.is_settled, "all is verified")
        assert await books.ledger.fetchval("SELECT count(*) FROM ledger.blocks") > 2
    await books.rows.command(f"ALTER TABLE events DELETE WHERE log_offset IN (3, 17) {_MUTATE}")
    await books.rows.command("INSERT INTO events SELECT * FROM events WHERE log_offset = 9")
    assert len(await books.stored()) == 19

    async def is_whole() -> bool:
        return sorted(int(event) for _, event in await books.stored()) == list(range(20))

    async with owner(*books.engines, tmp_path, compare_all_every_seconds=0.1) as second:
        await second.settlement.assign([PARTITION])
        await until(is_whole, "all rows are there, each once")
        await until(books.is_settled, "all is verified again")
        assert not second.failures
    assert await books.reconciled() == ""


async def test_a_block_lost_with_its_records_gone_is_told_and_holds_nothing_up(
    books: Books, tmp_path: Path
) -> None:
    campaign = await account(books.ledger)
    await books.log.write(PARTITION, *[[impression(campaign, str(n))] for n in range(20)])
    async with owner(*books.engines, tmp_path, store_max_rows=1, bill_max_bytes=1) as first:
        await first.bill(PARTITION)
        await until(books.is_settled, "all is verified")
    await books.log.delete_below(PARTITION, 10)
    await books.rows.command(f"ALTER TABLE events DELETE WHERE log_offset IN (3, 17) {_MUTATE}")

    async def is_told() -> bool:
        return await books.losses() == [(0, 3, 4, 1, 1_000)] and len(await books.stored()) == 19

    async with owner(*books.engines, tmp_path, compare_all_every_seconds=0.1) as second:
        await second.settlement.assign([PARTITION])
        await until(is_told, "one row is mended, the other is told")
        await until(books.is_settled, "all is verified again")
        assert not second.failures


async def test_who_was_replaced_or_looked_at_an_older_attempt_verifies_nothing(
    books: Books, tmp_path: Path
) -> None:
    campaign = await account(books.ledger)
    await books.log.write(PARTITION, [impression(campaign, "one")])
    async with owner(*books.engines, tmp_path, verify_after_seconds=3600) as first:
        await first.bill(PARTITION)

        async def is_stored() -> bool:
            return bool(
                await books.ledger.fetchval("SELECT count(*) FROM ledger.blocks WHERE stored_at IS NOT NULL")
            )

        await until(is_stored, "the block is stored")
    pool = await connect_pool(books.engines[1], 2)
    blocks = BlockLedger(pool)
    claim = await Ledger(pool).claim(PARTITION, "someone")
    block = await blocks.find_block(Block(PARTITION, 0, 0, 0, 0, 0, 0, 0, 0, 0))
    assert block is not None
    with pytest.raises(FencedError):
        await blocks.mark_verified([block], claim.epoch - 1)
    await blocks.new_attempt(msgspec.structs.replace(block, epoch=claim.epoch, attempt=2))
    await blocks.mark_stored(block, claim.epoch)
    with pytest.raises(FencedError):
        await blocks.mark_verified([block], claim.epoch)
    newer = await blocks.find_block(block)
    assert newer is not None
    await blocks.mark_verified([newer], claim.epoch)
    assert await books.is_settled()
    pool.terminate()


async def test_a_day_that_is_dropped_while_its_blocks_are_looked_at_fences_nobody(
    books: Books, tmp_path: Path
) -> None:
    campaign = await account(books.ledger)
    await books.log.write(PARTITION, *[[impression(campaign, str(n))] for n in range(3)])
    async with owner(*books.engines, tmp_path, store_max_rows=1, bill_max_bytes=1) as first:
        await first.bill(PARTITION)
        await until(books.is_settled, "all is verified")
    pool = await connect_pool(books.engines[1], 2)
    blocks = BlockLedger(pool)
    claim = await Ledger(pool).claim(PARTITION, "someone")
    looked_at = await blocks.blocks_verified(claim, -1, 10)
    assert len(looked_at) == 3
    await books.ledger.execute("UPDATE ledger.blocks SET verified_at = NULL")
    await books.ledger.execute("DELETE FROM ledger.blocks WHERE block = $1", looked_at[0].block)
    with pytest.raises(FencedError):
        await blocks.mark_verified(looked_at, claim.epoch - 1)
    await blocks.mark_verified(looked_at, claim.epoch)
    assert await books.ledger.fetchval("SELECT count(*) FROM ledger.blocks WHERE verified_at IS NULL") == 0
    with pytest.raises(FencedError):
        await blocks.mark_verified(looked_at[:1], claim.epoch - 1)
    await blocks.mark_verified(looked_at[:1], claim.epoch)
    pool.terminate()
