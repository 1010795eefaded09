"""The ledger's side: one snapshot of all totals, and the records of what was billed and stored."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Self

import asyncpg
import msgspec

from aggregator.domain.billing import Opening
from aggregator.domain.blocks import Block
from aggregator.domain.lineage import Incarnation, Stretch
from aggregator.domain.rows import BatchRecord
from compose.reconcile.figures import COUNTS, INVALID, Figures
from schemas.reasons import PricingModel, Threshold
from sql.load import postgres_queries


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A campaign's account beside its figures; None for no budget, no limit, an unknown campaign."""

    currency: str
    budget: int | None
    budget_version: int
    max_impressions: int | None
    billable_impressions: int
    name: str | None
    pricing: PricingModel | None


class Crossing(msgspec.Struct, frozen=True):
    """A recorded crossing of a campaign's budget version; `billed` in micros at that moment."""

    campaign_id: str
    budget_version: int
    threshold: Threshold
    billed: int


class PartitionState(msgspec.Struct, frozen=True):
    """How far a partition is billed, and how far blocks are fixed."""

    partition: int
    incarnation: int
    next_offset: int
    blocked_offset: int


class NewLog(Incarnation, frozen=True, kw_only=True):
    """A log that took the place of one that had been billed: what it held then (`log_end` exclusive), and how
    many events, micros that were billed it lacks."""

    partition: int
    log_first: int
    log_end: int
    lost_rows: int
    lost_billed: int
    began_at: datetime


class LostRows(msgspec.Struct, frozen=True):
    """Events billed in a range that ClickHouse will never hold: how many, how many micros."""

    partition: int
    incarnation: int
    block: int
    first_offset: int
    next_offset: int
    event_rows: int
    billed: int
    found_at: datetime


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All totals at one moment: exactly what lies below each partition's `next_offset`."""

    figures: Mapping[str, Figures]
    accounts: Mapping[str, Account]
    crossings: Sequence[Crossing]
    partitions: Mapping[int, PartitionState]
    new_logs: Sequence[NewLog] = ()
    lost_rows: Sequence[LostRows] = ()

    def history(self, partition: int) -> list[Incarnation]:
        """The partition's incarnations after the first one."""
        return [each for each in self.new_logs if each.partition == partition]


class Ledger:
    """Reads the ledger. Use as an async context manager; asyncpg's errors come through."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._sql = postgres_queries("reconcile")

    async def __aenter__(self) -> Self:
        self._connection = await asyncpg.connect(self._dsn)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()

    async def snapshot(self) -> Snapshot:
        """Totals and offsets in one repeatable-read transaction, so that they belong together while traffic
        goes on."""
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            accounts = await _rows(self._sql.accounts(self._connection))
            unbilled = await _rows(self._sql.unbilled(self._connection))
            crossings = await _rows(self._sql.crossings(self._connection))
            partitions = await _rows(self._sql.partitions(self._connection))
            new_logs = await _rows(self._sql.incarnations(self._connection))
            lost_rows = await _rows(self._sql.losses(self._connection))
        figures = {row["campaign_id"]: _figures(row) for row in accounts}
        for row in unbilled:
            campaign = figures.setdefault(row["campaign_id"], Figures())
            campaign.unbilled[row["reason"]] = row["events"]
        return Snapshot(
            figures=figures,
            accounts={row["campaign_id"]: _account(row) for row in accounts},
            crossings=[msgspec.convert(dict(row), Crossing) for row in crossings],
            partitions={row["partition"]: PartitionState(**row) for row in partitions},
            new_logs=[NewLog(**row) for row in new_logs],
            lost_rows=[LostRows(**row) for row in lost_rows],
        )

    async def batches(self, partition: int, stretch: Stretch) -> list[BatchRecord]:
        """What was billed of a range, in the order of the log; days past their retention are gone."""
        rows = await _rows(
            self._sql.batches(self._connection, partition=partition, **msgspec.structs.asdict(stretch))
        )
        return [
            BatchRecord(**{**row, "openings": msgspec.json.decode(row["openings"], type=dict[str, Opening])})
            for row in rows
        ]

    async def blocks(self, partition: int, stretch: Stretch) -> list[Block]:
        """The blocks of a range, in the order of the log."""
        rows = await _rows(
            self._sql.blocks(self._connection, partition=partition, **msgspec.structs.asdict(stretch))
        )
        return [Block(**row) for row in rows]

    async def not_stored(self, partition: int, next_offset: int) -> int:
        """How many blocks below an offset are not in ClickHouse yet."""
        return int(
            await self._sql.not_stored(self._connection, partition=partition, next_offset=next_offset) or 0
        )


async def _rows(query: Any) -> list[dict[str, Any]]:
    return [dict(row) async for row in query]


def _figures(row: Mapping[str, Any]) -> Figures:
    counted = {name: row[name] for name in (*COUNTS.values(), *INVALID.values())}
    money = {name: row[name] for name in ("billed", "overdelivery", "revenue", "duplicates")}
    return Figures(**counted, **money, cost=row["billed"] + row["overdelivery"])


def _account(row: Mapping[str, Any]) -> Account:
    model = row["pricing_model"]
    fields = {
        name: row[name]
        for name in (
            "currency",
            "budget",
            "budget_version",
            "max_impressions",
            "billable_impressions",
            "name",
        )
    }
    return Account(**fields, pricing=PricingModel(model) if model else None)
