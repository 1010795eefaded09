"""The ledger in Postgres: offsets and money, each change in one transaction."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import asyncpg
import msgspec

from aggregator.domain.announcements import activity_of, gates_of
from aggregator.domain.batch import WHOLE_RECORD, Batch
from aggregator.domain.billing import Account, Bill, Delta, Opening, at_risk, tally
from aggregator.domain.blocks import position
from aggregator.domain.joint_billing import JointBill, Tallied, bill_in_turn, together
from aggregator.domain.rows import BatchRecord
from aggregator.errors import FencedError
from aggregator.ledger_columns import crossing_columns, delta_columns
from aggregator.postgres import Claim, changed_rows, fetch
from schemas import budget_gates, campaign_activity
from schemas.budget_gates import BudgetGate
from schemas.campaign_activity import BatchActivity
from schemas.reasons import Threshold
from sql.load import postgres_queries


class _Limits(msgspec.Struct, frozen=True, gc=False):
    """What decides whether a campaign is at risk, in the order of the columns of `lock_accounts`."""

    budget: int | None
    max_impressions: int | None
    billed: int
    billable_impressions: int


class Due(msgspec.Struct, frozen=True):
    """A batch that is to be billed by its partition's owner; `duplicates` are indexes into its events."""

    claim: Claim
    batch: Batch
    duplicates: Sequence[int]


class Billed(msgspec.Struct, frozen=True):
    """What the ledger keeps of a batch, and how many thresholds it has crossed."""

    record: BatchRecord
    crossings: int


class Ledger:
    """The ledger's transactions. All raise what postgres.RETRYABLE lists when Postgres is away or busy."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._sql = postgres_queries("ledger")

    async def claim(self, partition: int, owner: str) -> Claim:
        """Makes `owner` the owner of the partition; whoever was before is fenced from now on."""
        async with self._pool.acquire() as connection:
            row = await self._sql.claim_partition(connection, partition=partition, owner=owner)
        return Claim(**dict(row))

    async def owns(self, claim: Claim) -> bool:
        """Whether nobody has claimed the partition since."""
        async with self._pool.acquire() as connection:
            return bool(
                await self._sql.owned_partition(
                    connection, partition=claim.partition, incarnation=claim.incarnation, epoch=claim.epoch
                )
            )

    async def bill(self, due: Sequence[Due]) -> list[Billed]:
        """Bills batches, each of another partition, one after another in one transaction.

        FencedError, and nothing is billed, when one of the partitions has another owner or is not at its
        batch's `first_offset`. When the connection breaks the outcome is unknown: ask `find_batch`.
        """
        tallied = [
            Tallied(each.batch, each.duplicates, tally(each.batch.events, each.duplicates)) for each in due
        ]
        added = together([each.deltas for each in tallied])
        async with self._pool.acquire() as connection, connection.transaction():
            await self._advance(connection, due)
            accounts = await self._accounts_at_risk(connection, added)
            crossed = await self._crossed(connection, accounts)
            joint = bill_in_turn(tallied, added, accounts, crossed)
            records = [_record(each, outcome) for each, outcome in zip(due, joint.outcomes, strict=True)]
            await self._save(connection, joint)
            gates = gates_of(joint.crossings, accounts, crossed)
            activities = [activity_of(each.batch, each.deltas) for each in tallied]
            await self._add_batches(connection, records, gates, activities)
        return [
            Billed(record, len(outcome.crossings))
            for record, outcome in zip(records, joint.outcomes, strict=True)
        ]

    async def find_batch(self, batch: Batch, epoch: int) -> BatchRecord | None:
        """The batch's record if its transaction was committed by this epoch."""
        records = await self.batches_between(
            batch.partition, batch.incarnation, batch.first_offset, batch.next_offset
        )
        matching = [r for r in records if r.next_offset == batch.next_offset and r.epoch == epoch]
        return matching[0] if matching else None

    async def batches_between(
        self, partition: int, incarnation: int, first_offset: int, next_offset: int, most: int | None = None
    ) -> list[BatchRecord]:
        """The records of the batches that begin in the range, in order; the first `most` of them."""
        async with self._pool.acquire() as connection:
            rows = await fetch(
                self._sql.batches_between(
                    connection,
                    partition=partition,
                    incarnation=incarnation,
                    first_offset=first_offset,
                    next_offset=next_offset,
                    most=most,
                )
            )
        return [
            BatchRecord(
                **{**dict(row), "openings": msgspec.json.decode(row["openings"], type=dict[str, Opening])}
            )
            for row in rows
        ]

    async def duplicates_between(
        self, partition: int, incarnation: int, first_offset: int, next_offset: int
    ) -> set[int]:
        """Positions that were not counted because their ids had been counted: all of the range, and maybe
        others of its batches."""
        async with self._pool.acquire() as connection:
            rows = await fetch(
                self._sql.duplicates_between(
                    connection,
                    partition=partition,
                    incarnation=incarnation,
                    first_offset=first_offset,
                    next_offset=next_offset,
                )
            )
        return {row["position"] for row in rows}

    async def old_days(self, today: date, keep_days: int) -> list[date]:
        """Days (UTC) of batches and blocks that lie more than `keep_days` before today."""
        async with self._pool.acquire() as connection:
            rows = await fetch(self._sql.old_days(connection, today=today, keep_days=keep_days))
        return [row["day"] for row in rows]

    async def drop_day(self, day: date) -> bool:
        """Drops a day; False, and nothing done, while any of it, or before it, is not verified as stored."""
        async with self._pool.acquire() as connection, connection.transaction():
            return bool(await self._sql.drop_day(connection, day=day))

    async def create_day(self, day: date) -> None:
        """Makes the tables' partitions of one day (UTC), if they are not there."""
        async with self._pool.acquire() as connection:
            await self._sql.create_day(connection, day=day)

    async def _advance(self, connection: Any, due: Sequence[Due]) -> None:
        changed = await self._sql.advance_partitions(
            connection,
            partitions=[each.batch.partition for each in due],
            incarnations=[each.batch.incarnation for each in due],
            epochs=[each.claim.epoch for each in due],
            first_offsets=[each.batch.first_offset for each in due],
            next_offsets=[each.batch.next_offset for each in due],
            last_record_hashes=[each.batch.last_record_hash for each in due],
        )
        if changed_rows(changed) != len(due):
            claims = ", ".join(f"{each.claim.partition} at epoch {each.claim.epoch}" for each in due)
            raise FencedError(f"the ledger has gone on without the owner of partition {claims}")

    async def _accounts_at_risk(self, connection: Any, deltas: Mapping[str, Delta]) -> dict[str, Account]:
        """Locks the accounts of all deltas, and reads those that can't be billed in full at once."""
        if not deltas:
            return {}
        campaign_ids = sorted(deltas)  # as Postgres sorts them: the limits come in this order
        limits = await self._lock_accounts(connection, campaign_ids)
        if len(limits) < len(campaign_ids):
            await self._add_unknown(connection, deltas)
            limits = await self._lock_accounts(connection, campaign_ids)
        risky = at_risk((deltas[campaign_id] for campaign_id in campaign_ids), limits)
        if not risky:
            return {}
        rows = await fetch(self._sql.accounts(connection, campaign_ids=risky))
        accounts = (_account(row) for row in rows)
        return {account.campaign_id: account for account in accounts}

    async def _lock_accounts(self, connection: Any, campaign_ids: Sequence[str]) -> list[_Limits]:
        rows = await fetch(self._sql.lock_accounts(connection, campaign_ids=campaign_ids))
        return [_Limits(*row) for row in rows]

    async def _add_unknown(self, connection: Any, deltas: Mapping[str, Delta]) -> None:
        rows = await fetch(self._sql.accounts(connection, campaign_ids=list(deltas)))
        known = {str(row["campaign_id"]) for row in rows}
        unknown = [delta for campaign_id, delta in sorted(deltas.items()) if campaign_id not in known]
        await self._sql.add_unknown_accounts(
            connection,
            campaign_ids=[delta.campaign_id for delta in unknown],
            organization_ids=[delta.organization_id for delta in unknown],
            currencies=[delta.currency for delta in unknown],
        )

    async def _crossed(
        self, connection: Any, accounts: Mapping[str, Account]
    ) -> dict[str, frozenset[Threshold]]:
        """What was crossed before. A second statement, so that it sees what was committed while it waited
        for the accounts' locks."""
        if not accounts:
            return {}
        crossed: dict[str, set[Threshold]] = {}
        async for row in self._sql.crossings_of(connection, campaign_ids=list(accounts)):
            crossed.setdefault(str(row["campaign_id"]), set()).add(Threshold(row["threshold"]))
        return {campaign_id: frozenset(thresholds) for campaign_id, thresholds in crossed.items()}

    async def _save(self, connection: Any, joint: JointBill) -> None:
        deltas = list(joint.deltas.values())
        if deltas:
            crossing = {c.campaign_id for c in joint.crossings}
            await self._sql.add_to_accounts(connection, **delta_columns(deltas, crossing))
        if unbilled := [(d.campaign_id, reason, n) for d in deltas for reason, n in d.unbilled.items()]:
            ids, reasons, counts = zip(*sorted(unbilled), strict=True)
            await self._sql.add_unbilled(connection, campaign_ids=ids, reasons=reasons, events=counts)
        if joint.crossings:
            await self._sql.add_crossings(connection, **crossing_columns(joint.crossings))

    async def _add_batches(
        self,
        connection: Any,
        records: Sequence[BatchRecord],
        gates: Sequence[BudgetGate],
        activities: Sequence[Sequence[BatchActivity]],
    ) -> None:
        """What was billed, and what is told of it. Gates first of all, because doors wait for them."""
        await self._sql.add_batches(
            connection,
            [
                _batch_columns(record, gates if index == 0 else (), activities[index])
                for index, record in enumerate(records)
            ],
        )


def _batch_columns(
    record: BatchRecord, gates: Sequence[BudgetGate], activities: Sequence[BatchActivity]
) -> dict[str, Any]:
    partition = str(record.partition).encode()
    return {
        **msgspec.structs.asdict(record),
        "openings": msgspec.json.encode(record.openings).decode(),
        "topics": [*(budget_gates.TOPIC for _ in gates), *(campaign_activity.TOPIC for _ in activities)],
        "keys": [*(gate.campaign_id.encode() for gate in gates), *(partition for _ in activities)],
        "values": [msgspec.json.encode(value) for value in (*gates, *activities)],
        "partitions": [-1] * (len(gates) + len(activities)),
    }


def _record(due: Due, outcome: Bill) -> BatchRecord:
    batch = due.batch
    return BatchRecord(
        partition=batch.partition,
        incarnation=batch.incarnation,
        first_offset=batch.first_offset,
        next_offset=batch.next_offset,
        epoch=due.claim.epoch,
        event_rows=len(batch.events) - len(due.duplicates),
        billed=sum(delta.billed for delta in outcome.deltas.values()),
        duplicates=[batch.positions[index] for index in due.duplicates],
        dead_letters=[
            position(letter.offset, WHOLE_RECORD if letter.index < 0 else letter.index)
            for letter in batch.dead_letters
        ],
        openings=outcome.openings,
        last_record_hash=batch.last_record_hash,
        size=batch.size,
    )


def _account(row: asyncpg.Record) -> Account:
    values = dict(row)
    values["campaign_id"] = str(values["campaign_id"])
    values["organization_id"] = str(values["organization_id"])
    return Account(**values)
