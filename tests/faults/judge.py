"""The client's own record beside the ledger and ClickHouse; `flightline reconcile` judges as well."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import aiohttp
import asyncpg
import msgspec

from tests.faults.gauges import COUNTED
from tests.faults.mix import Campaign
from tests.faults.record import Event, Record
from tests.running import RunningStack

_ACCOUNTS = """
    SELECT campaign_id::text AS id, budget, billed FROM ledger.accounts WHERE campaign_id = ANY($1::uuid[])
"""


VERIFIED_SOON = {"FLIGHTLINE_VERIFY_AFTER_SECONDS": "2"}
"""In the place of a minute. What was given up in a fault may still arrive in ClickHouse, so its rows are
exact once they are verified; the ledger always is."""

_NOT_VERIFIED = """
    SELECT (SELECT count(*) FROM ledger.blocks WHERE verified_at IS NULL)
         + (SELECT count(*) FROM ledger.partitions WHERE blocked_offset < next_offset) AS waiting,
           (SELECT coalesce(sum(next_offset), 0) FROM ledger.partitions) AS billed
"""
_QUIET_S = 2.0
_COUNTED_WITHIN_S = 60.0


class Verdict(msgspec.Struct, kw_only=True):
    """Events; `over_budget` in micros. `promised`: different events with a 2xx."""

    promised: int
    counted: int
    lost: int
    doubled: int
    over_budget: int
    unknown: int
    """Without an answer, so counted once or not at all."""
    differences: list[str] = []

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.over_budget or self.differences)


async def until_verified(stack: RunningStack, within_s: float) -> None:
    """Waits until nothing more is billed, and all that is billed is found exact in ClickHouse."""
    connection = await asyncpg.connect(stack.ready.postgres)
    try:
        deadline, billed, since = time.monotonic() + within_s, -1, time.monotonic()
        while True:
            row, now = await connection.fetchrow(_NOT_VERIFIED), time.monotonic()
            if row["waiting"] or row["billed"] != billed:
                billed, since = row["billed"], now
            if now - since > _QUIET_S:
                return
            assert now < deadline, f"{row['waiting']} blocks are not verified after {within_s:.0f} s"
            await asyncio.sleep(0.2)
    finally:
        await connection.close()


def _promised(record: Record) -> set[tuple[str, str]]:
    """(campaign, eventId) of the different events with a 2xx."""
    return {(event.campaign_id, event.event_id) for event in record.promised}


async def until_counted(stack: RunningStack, campaigns: Sequence[Campaign], record: Record) -> None:
    """Waits until as many events are billed as were promised, and judges nothing: when the time is up it
    returns all the same. What a door has promised may still lie in its spool, because Kafka was broken last
    and is on its way back."""
    ids = [campaign.id for campaign in campaigns]
    promised = len(_promised(record))
    connection = await asyncpg.connect(stack.ready.postgres)
    try:
        deadline = time.monotonic() + _COUNTED_WITHIN_S
        while time.monotonic() < deadline and await connection.fetchval(COUNTED, ids) < promised:
            await asyncio.sleep(0.2)
    finally:
        await connection.close()


async def judge(stack: RunningStack, campaigns: Sequence[Campaign], record: Record) -> Verdict:
    """The record beside what was counted. Call when all that was logged is billed and stored."""
    ids = [campaign.id for campaign in campaigns]
    stored = await _rows(stack, ids)
    rows = stored.counts
    connection = await asyncpg.connect(stack.ready.postgres)
    try:
        counted = int(await connection.fetchval(COUNTED, ids))
        accounts = {row["id"]: dict(row) for row in await connection.fetch(_ACCOUNTS, ids)}
    finally:
        await connection.close()
    promised = _promised(record)
    unknown = {(e.campaign_id, e.event_id) for e in record.unanswered}
    expected = len(promised) + len(unknown & rows.keys())
    missing, twice = promised - rows.keys(), rows.total() - len(rows)
    return Verdict(
        promised=len(promised),
        counted=counted,
        lost=max(len(missing), expected - counted, 0),
        doubled=max(twice, counted - expected, 0),
        over_budget=sum(
            max(0, a["billed"] - a["budget"]) for a in accounts.values() if a["budget"] is not None
        ),
        unknown=len(unknown),
        differences=[
            *(
                f"{key} is counted and was never promised"
                for key in list(rows.keys() - promised - unknown)[:5]
            ),
            *(f"{event.event_id} was refused: {event.refusals[0]}" for event in record.refused[:5]),
            *_money(campaigns, record, accounts),
            *_times(record, stored.times),
        ],
    )


def _money(campaigns: Sequence[Campaign], record: Record, accounts: dict[str, dict[str, int]]) -> list[str]:
    """What an endless campaign has cost follows from the promises alone; another one ends at its budget."""
    found = []
    for campaign in campaigns:
        mine = [e for e in record.promised if e.campaign_id == campaign.id]
        account = accounts[campaign.id]
        if campaign.plan.abandoned:
            continue
        cost = sum(_accepted_cost(event) for event in mine)
        billed = cost if account["budget"] is None else min(cost, account["budget"])
        # A copy that nobody was told of may have been billed before the one that was answered as unbilled.
        is_right = account["billed"] == billed if campaign.plan.endless else account["billed"] >= billed
        if not is_right:
            found.append(f"{campaign.plan.title}: billed {account['billed']}, by the promises {billed}")
    return found


def _accepted_cost(event: Event) -> int:
    return 0 if event.status == "unbilled" else event.cost


def _times(record: Record, times: dict[tuple[str, str], str]) -> list[str]:
    """Whatever came late and out of order stands at the time that its own clock gave."""
    found = []
    for event in record.promised:
        said, stored = event.body.get("occurredAt"), times.get((event.campaign_id, event.event_id))
        if said is None or stored is None or "sentAt" in event.body:
            continue
        if datetime.fromisoformat(said) != datetime.fromisoformat(f"{stored}+00:00"):
            found.append(f"{event.event_id}: occurred at {said}, stored as {stored}")
    return found[:5]


class _Rows(msgspec.Struct, frozen=True):
    """What ClickHouse holds, by campaign and event."""

    counts: Counter[tuple[str, str]]
    times: dict[tuple[str, str], str]


async def _rows(stack: RunningStack, ids: Sequence[str]) -> _Rows:
    base, _, database = stack.ready.clickhouse.rpartition("/")
    listed = ", ".join(f"'{id_}'" for id_ in ids)
    query = (
        "SELECT toString(campaign_id), event_id, count(), toString(any(occurred_at)) FROM events"  # noqa: S608
        f" WHERE campaign_id IN ({listed}) GROUP BY campaign_id, event_id FORMAT TSV"  # ids of our own
    )
    async with (
        aiohttp.ClientSession() as session,
        session.post(base, params={"database": database}, data=query) as answer,
    ):
        text = await answer.text()
        assert answer.status == 200, text
    lines = [line.split("\t") for line in text.splitlines()]
    return _Rows(
        Counter({(campaign_id, event_id): int(count) for campaign_id, event_id, count, _ in lines}),
        {(campaign_id, event_id): at for campaign_id, event_id, _, at in lines},
    )
