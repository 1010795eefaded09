"""The ledger's transactions on a real Postgres."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from aggregator.domain.batch import Batch, LogRecord, decode_batch
from aggregator.domain.rows import BatchRecord
from aggregator.errors import FencedError
from aggregator.joint_bills import JointBills
from aggregator.ledger import Billed, Due, Ledger
from aggregator.postgres import Claim, connect_pool
from schemas.events import SCHEMA_NAME, TrackingEvent, encode_events
from schemas.money import MAX_COST_MICROS, MAX_REVENUE_MICROS
from schemas.reasons import EventType

NOW = time.time_ns() // 1_000_000
ORGANIZATION = str(uuid4())


@pytest_asyncio.fixture(loop_scope="session")
async def pool(postgres_dsn: str) -> AsyncIterator[asyncpg.Pool]:
    pool = await connect_pool(postgres_dsn, 4)
    yield pool
    pool.terminate()


@pytest.fixture
def ledger(pool: asyncpg.Pool) -> Ledger:
    return Ledger(pool)


async def account(pool: asyncpg.Pool, budget: int | None, max_impressions: int | None = None) -> str:
    campaign_id = str(uuid4())
    await pool.execute(
        "INSERT INTO ledger.accounts (campaign_id, organization_id, currency, budget, max_impressions) "
        "VALUES ($1, $2, 'EUR', $3, $4)",
        campaign_id,
        ORGANIZATION,
        budget,
        max_impressions,
    )
    return campaign_id


async def totals(pool: asyncpg.Pool, campaign_id: str) -> asyncpg.Record:
    return await pool.fetchrow("SELECT * FROM ledger.accounts WHERE campaign_id = $1", UUID(campaign_id))


def impression(campaign_id: str, cost: int = 1_000, **fields: object) -> TrackingEvent:
    return TrackingEvent(
        event_id=str(uuid4()),
        organization_id=ORGANIZATION,
        campaign_id=campaign_id,
        type=EventType.IMPRESSION,
        received_at=NOW,
        occurred_at=NOW,
        currency="EUR",
        budget_version=1,
        cost=cost,
        **fields,  # type: ignore[arg-type]
    )


def batch(claim: Claim, offset: int, *events: TrackingEvent) -> Batch:
    record = LogRecord(offset=offset, at=NOW, schema=SCHEMA_NAME, value=encode_events(events))
    return decode_batch(claim.partition, claim.incarnation, [record])


async def bill(
    ledger: Ledger, claim: Claim, events: Batch, duplicates: Sequence[int]
) -> tuple[BatchRecord, int]:
    (billed,) = await ledger.bill([Due(claim, events, duplicates)])
    return billed.record, billed.crossings


_partitions = iter(range(1_000))


async def claimed(ledger: Ledger, owner: str = "one") -> Claim:
    return await ledger.claim(next(_partitions), owner)


async def test_a_batch_is_billed_once_and_a_second_try_is_refused(ledger: Ledger, pool: asyncpg.Pool) -> None:
    claim, campaign = await claimed(ledger), await account(pool, None)
    events = batch(claim, 0, impression(campaign), impression(campaign))
    record, _ = await bill(ledger, claim, events, [])
    with pytest.raises(FencedError):
        await bill(ledger, claim, events, [])
    assert (await totals(pool, campaign))["billed"] == record.billed == 2_000
    assert await ledger.find_batch(events, claim.epoch) == record


async def test_an_owner_that_was_replaced_bills_nothing(ledger: Ledger, pool: asyncpg.Pool) -> None:
    claim, campaign = await claimed(ledger), await account(pool, None)
    newer = await ledger.claim(claim.partition, "another")
    assert newer.epoch == claim.epoch + 1
    with pytest.raises(FencedError):
        await bill(ledger, claim, batch(claim, 0, impression(campaign)), [])
    assert (await totals(pool, campaign))["impressions"] == 0


async def test_the_same_owner_keeps_its_epoch(ledger: Ledger) -> None:
    claim = await claimed(ledger)
    assert await ledger.claim(claim.partition, "one") == claim


async def test_a_batch_that_skips_an_offset_is_refused(ledger: Ledger, pool: asyncpg.Pool) -> None:
    claim, campaign = await claimed(ledger), await account(pool, None)
    with pytest.raises(FencedError):
        await bill(ledger, claim, batch(claim, 1, impression(campaign)), [])


async def test_batches_of_several_partitions_are_billed_as_one_after_another(
    ledger: Ledger, pool: asyncpg.Pool
) -> None:
    campaign, alone = await account(pool, 10_000), await account(pool, None)
    due = []
    for count in (8, 8, 1):
        claim = await claimed(ledger)
        events = [*[impression(campaign)] * count, impression(alone)]
        due.append(Due(claim, batch(claim, 0, *events), [count] if count == 1 else []))
    billed = await ledger.bill(due)
    assert [(each.record.billed, each.record.event_rows, each.crossings) for each in billed] == [
        (9_000, 9, 0),
        (3_000, 9, 2),
        (0, 1, 0),
    ]
    after = await totals(pool, campaign)
    assert (after["impressions"], after["billed"], after["overdelivery"]) == (17, 10_000, 7_000)
    assert after["gate_version"] == 1
    after = await totals(pool, alone)
    assert (after["impressions"], after["duplicates"], after["billed"]) == (2, 1, 2_000)
    for each, (claim, events, _) in zip(billed, map(msgspec.structs.astuple, due), strict=True):
        assert await ledger.find_batch(events, claim.epoch) == each.record
    told = await pool.fetch(
        "SELECT topic FROM ledger.outbox WHERE key = ANY($1::bytea[]) ORDER BY id",
        [campaign.encode(), *(str(each.claim.partition).encode() for each in due)],
    )
    assert [row[0] for row in told] == ["budget-gates", *["campaign-activity"] * 3]


async def test_where_one_partition_has_another_owner_nothing_of_the_transaction_is_billed(
    ledger: Ledger, pool: asyncpg.Pool
) -> None:
    campaign = await account(pool, None)
    claims = [await claimed(ledger) for _ in range(3)]
    await ledger.claim(claims[1].partition, "another")
    due = [Due(claim, batch(claim, 0, impression(campaign)), []) for claim in claims]
    with pytest.raises(FencedError):
        await ledger.bill(due)
    assert (await totals(pool, campaign))["impressions"] == 0
    outcomes = await asyncio.gather(*map(JointBills(ledger).bill, due), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Billed, FencedError, Billed]
    assert (await totals(pool, campaign))["impressions"] == 2


async def test_a_crossing_is_recorded_with_its_event_and_its_gate_goes_to_the_outbox(
    ledger: Ledger, pool: asyncpg.Pool
) -> None:
    claim, campaign = await claimed(ledger), await account(pool, 10_000)
    _, crossings = await bill(ledger, claim, batch(claim, 0, *[impression(campaign)] * 12), [])
    assert crossings == 2
    rows = await pool.fetch(
        "SELECT threshold, billed, event_index FROM ledger.crossings WHERE campaign_id = $1 ORDER BY billed",
        UUID(campaign),
    )
    assert [tuple(row) for row in rows] == [("90", 9_000, 8), ("100", 10_000, 9)]
    after = await totals(pool, campaign)
    assert (after["billed"], after["overdelivery"], after["gate_version"]) == (10_000, 2_000, 1)
    gates = await pool.fetchval(
        "SELECT count(*) FROM ledger.outbox WHERE topic = 'budget-gates' AND key = $1", campaign.encode()
    )
    assert gates == 1


async def test_a_campaign_without_an_account_is_counted_and_never_billed(
    ledger: Ledger, pool: asyncpg.Pool
) -> None:
    claim, campaign = await claimed(ledger), str(uuid4())
    await bill(ledger, claim, batch(claim, 0, impression(campaign)), [])
    after = await totals(pool, campaign)
    assert (after["impressions"], after["billed"], after["overdelivery"]) == (1, 0, 1_000)


async def test_no_sum_that_clients_can_send_stops_a_partition(ledger: Ledger, pool: asyncpg.Pool) -> None:
    claim, campaign = await claimed(ledger), await account(pool, None)
    largest = impression(campaign, MAX_COST_MICROS, revenue=MAX_REVENUE_MICROS)
    for offset in range(50):
        await bill(ledger, claim, batch(claim, offset, *[largest] * 1_000), [])
    after = await totals(pool, campaign)
    assert after["impressions"] == 50_000
    assert after["revenue"] == 2**63 - 1
    assert after["billed"] == 50_000 * MAX_COST_MICROS


async def test_the_table_itself_refuses_to_bill_above_a_budget(pool: asyncpg.Pool) -> None:
    campaign = await account(pool, 1_000)
    with pytest.raises(asyncpg.CheckViolationError):
        await pool.execute("UPDATE ledger.accounts SET billed = 1001 WHERE campaign_id = $1", UUID(campaign))
