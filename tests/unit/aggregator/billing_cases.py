"""A ledger in memory for the pure billing domain, and strategies for logs that are hard on it."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import strategies as st

from aggregator.domain.batch import Batch
from aggregator.domain.billing import Account, Bill, Delta, at_risk, tally
from aggregator.domain.blocks import position
from aggregator.domain.crossing import Crossing
from aggregator.domain.joint_billing import Tallied, bill_in_turn, together
from aggregator.domain.rows import BatchRecord, EventRow, rows_of
from schemas.events import TrackingEvent
from schemas.ids import new_id
from schemas.reasons import EventType, Threshold, Unbilled

CAMPAIGNS = tuple(new_id() for _ in range(3))
ORGANIZATION = new_id()
PARTITION = 2
INCARNATION = 1


def event_of(kind: EventType = EventType.IMPRESSION, cost: int = 0, **fields: Any) -> TrackingEvent:
    values: dict[str, Any] = {
        "event_id": "e",
        "organization_id": ORGANIZATION,
        "campaign_id": CAMPAIGNS[0],
        "type": kind,
        "received_at": 1_000,
        "occurred_at": 1_000,
        "currency": "EUR",
        "budget_version": 1,
        "cost": cost,
    }
    return TrackingEvent(**(values | fields))


def unbilled_of(reason: Unbilled, kind: EventType = EventType.IMPRESSION, **fields: Any) -> TrackingEvent:
    return event_of(kind, billable=False, reason=reason, **fields)


def account_of(campaign_id: str = CAMPAIGNS[0], **fields: Any) -> Account:
    values: dict[str, Any] = {
        "campaign_id": campaign_id,
        "organization_id": ORGANIZATION,
        "currency": "EUR",
        "budget": None,
        "budget_version": 1,
        "max_impressions": None,
        "billed": 0,
        "billable_impressions": 0,
        "flat_billed": False,
        "gate_version": 0,
    }
    return Account(**(values | fields))


def batch_of(events: Sequence[TrackingEvent], first_offset: int = 0) -> Batch:
    """Each event is a record of its own."""
    return Batch(
        partition=PARTITION,
        incarnation=INCARNATION,
        first_offset=first_offset,
        next_offset=first_offset + len(events),
        positions=[position(first_offset + index, 0) for index in range(len(events))],
        events=list(events),
        dead_letters=[],
        newest_at=0,
        size=100 * len(events),
        last_record_hash=b"",
    )


class MemoryLedger:
    """What the ledger in Postgres does around `tally` and `bill`, without Postgres."""

    def __init__(self, accounts: Sequence[Account]) -> None:
        self.accounts = {account.campaign_id: account for account in accounts}
        self.crossed: dict[str, set[Threshold]] = {}
        self.crossings: list[Crossing] = []
        self.rows: list[EventRow] = []
        self.records: list[BatchRecord] = []
        self.totals: dict[str, Delta] = {}

    def bill(self, batch: Batch, duplicates: Sequence[int] = ()) -> None:
        self.bill_all([(batch, duplicates)])

    def bill_all(self, batches: Sequence[tuple[Batch, Sequence[int]]]) -> None:
        """In one transaction, as `Ledger.bill` does it."""
        tallied = [
            Tallied(batch, duplicates, tally(batch.events, duplicates)) for batch, duplicates in batches
        ]
        added = together([each.deltas for each in tallied])
        crossed = {campaign_id: frozenset(these) for campaign_id, these in self.crossed.items()}
        risky = at_risk(added.values(), [self.accounts[campaign_id] for campaign_id in added])
        accounts = {campaign_id: self.accounts[campaign_id] for campaign_id in risky}
        joint = bill_in_turn(tallied, added, accounts, crossed)
        for delta in joint.deltas.values():
            self._add(delta)
        for (batch, duplicates), outcome in zip(batches, joint.outcomes, strict=True):
            self._keep(batch, duplicates, outcome)

    def _keep(self, batch: Batch, duplicates: Sequence[int], outcome: Bill) -> None:
        record = BatchRecord(
            partition=batch.partition,
            incarnation=batch.incarnation,
            first_offset=batch.first_offset,
            next_offset=batch.next_offset,
            epoch=1,
            event_rows=len(batch.events) - len(duplicates),
            billed=sum(delta.billed for delta in outcome.deltas.values()),
            duplicates=[batch.positions[index] for index in duplicates],
            dead_letters=[],
            openings=outcome.openings,
        )
        for crossing in outcome.crossings:
            self.crossed.setdefault(crossing.campaign_id, set()).add(crossing.threshold)
        self.crossings += outcome.crossings
        self.records.append(record)
        # As a recovery does: the rows follow from the log and from what the record was stored as.
        stored = msgspec.json.decode(msgspec.json.encode(record), type=BatchRecord)
        self.rows += rows_of(batch, stored)

    def _add(self, delta: Delta) -> None:
        account = self.accounts[delta.campaign_id]
        self.accounts[delta.campaign_id] = msgspec.structs.replace(
            account,
            billed=account.billed + delta.billed,
            billable_impressions=account.billable_impressions + delta.billable_impressions,
            flat_billed=account.flat_billed or delta.flat_billed,
        )
        total = self.totals.setdefault(
            delta.campaign_id, Delta(delta.campaign_id, delta.organization_id, delta.currency)
        )
        for field in msgspec.structs.fields(Delta):
            name, value = field.name, getattr(delta, field.name)
            if name == "unbilled":
                for reason, count in value.items():
                    total.unbilled[reason] = total.unbilled.get(reason, 0) + count
            elif name == "last_received_at":
                total.last_received_at = max(total.last_received_at, value)
            elif isinstance(value, bool):
                setattr(total, name, getattr(total, name) or value)
            elif isinstance(value, int):
                setattr(total, name, getattr(total, name) + value)


def billed_in_cuts(
    accounts: Sequence[Account],
    events: Sequence[TrackingEvent],
    duplicates: Sequence[int],
    cuts: Sequence[int],
    *,
    jointly: bool = False,
) -> MemoryLedger:
    """The log of `events` billed in batches that end at `cuts` (ascending, below the number of events), each
    in a transaction of its own, or all of them in one."""
    ledger = MemoryLedger(accounts)
    batches = []
    for begin, end in pairwise([0, *cuts, len(events)]):
        if begin < end:
            inside = [index - begin for index in duplicates if begin <= index < end]
            batches.append((batch_of(events[begin:end], begin), inside))
    if jointly:
        ledger.bill_all(batches)
    else:
        for batch, inside in batches:
            ledger.bill(batch, inside)
    return ledger


_costs = st.one_of(st.integers(0, 30), st.just(0), st.integers(0, 10**15))
_budgets = st.none() | st.integers(0, 300) | st.integers(0, 10**16)


@st.composite
def accounts(draw: st.DrawFn) -> list[Account]:
    """One account a campaign, some of them partly used up."""
    found = []
    for campaign_id in CAMPAIGNS:
        budget, limit = draw(_budgets), draw(st.none() | st.integers(0, 20))
        found.append(
            account_of(
                campaign_id,
                budget=budget,
                max_impressions=limit,
                billed=draw(st.integers(0, 100 if budget is None else budget)),
                billable_impressions=draw(st.integers(0, 5 if limit is None else limit)),
            )
        )
    return found


@st.composite
def events(draw: st.DrawFn) -> TrackingEvent:
    """The last campaign has a flat fee of 50, the others pay by the event."""
    campaign = draw(st.sampled_from(CAMPAIGNS))
    kind = draw(st.sampled_from(EventType))
    reason = draw(st.none() | st.none() | st.sampled_from(Unbilled))
    common = {"campaign_id": campaign, "received_at": draw(st.integers(0, 10**6))}
    common["revenue"] = draw(st.sampled_from((0, 7)))
    common["revenue_verified"] = draw(st.booleans())
    if reason is not None:
        return unbilled_of(reason, kind, **common)
    if campaign == CAMPAIGNS[-1]:
        return event_of(kind, draw(st.sampled_from((0, 50, 50))), flat=True, **common)
    return event_of(kind, draw(_costs), **common)


class Log(msgspec.Struct, frozen=True):
    """A log, which of its events are duplicates, and two ways to cut it into batches."""

    accounts: list[Account]
    events: list[TrackingEvent]
    duplicates: list[int]
    cuts: list[int]


@st.composite
def logs(draw: st.DrawFn) -> Log:
    told = draw(st.lists(events(), min_size=1, max_size=40))
    indexes = st.lists(st.integers(0, len(told) - 1), unique=True, max_size=8).map(sorted)
    return Log(draw(accounts()), told, draw(indexes), draw(indexes))
