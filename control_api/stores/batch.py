"""Changes of many campaigns in one transaction, written by a few statements."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

from control_api.domain.account import Account
from control_api.domain.approval import Approval, ApprovalState
from control_api.domain.audit import AuditEntry, chain
from control_api.domain.campaign import Campaign
from control_api.stores.rows import account_columns, campaign_from, to_json
from schemas.reasons import Threshold
from sql.load import postgres_queries

if TYPE_CHECKING:
    from control_api.stores.unit import PostgresUnit

_batch = postgres_queries("control_batch")
_approvals = postgres_queries("control_approvals")
_audit = postgres_queries("control_audit")
_ACCOUNT_FIELDS = frozenset(field.name for field in msgspec.structs.fields(Account)) - {"crossed", "unbilled"}
_AUDIT = {
    "at": "ats",
    "actor": "actors",
    "action": "actions",
    "subject_type": "subject_types",
    "subject_id": "subject_ids",
    "reason": "reasons",
    "correlation_id": "correlation_ids",
    "address": "addresses",
    "before": "befores",
    "after": "afters",
}
"""Of each field of an entry, the parameter of its statement."""
_KEPT = frozenset(
    {
        "id",
        "organization_id",
        "name",
        "description",
        "status",
        "status_reason",
        "type",
        "targeting_rules",
        "start_date",
        "end_date",
        "currency",
        "budget_version",
        "acknowledged_threshold",
        "pending_budget",
        "approved_budget_version",
        "budget_changed_by",
        "closed_since",
        "settings",
        "created_by",
        "created_at",
        "updated_by",
        "updated_at",
        "deleted_at",
        "version",
    }
)


class BatchStore:
    """Implements handlers.work_ports.Batch: what is written is kept here until `flush`."""

    def __init__(self, connection: asyncpg.Connection, unit: "PostgresUnit") -> None:
        self._connection = connection
        self._unit = unit
        self._asked: set[str] = set()
        self._created: list[Campaign] = []
        self._updated: list[Campaign] = []
        self._rebudgeted: list[Campaign] = []
        self._outbox: list[tuple[str, bytes, bytes]] = []
        self._sent: list[int] = []
        self._entries: list[AuditEntry] = []

    async def lock(
        self, organization_id: str, campaign_ids: Sequence[str]
    ) -> dict[str, tuple[Campaign, Account]]:
        found = {"ids": list(campaign_ids), "organization_id": organization_id}
        accounts = {
            str(row["campaign_id"]): row async for row in _batch.lock_accounts(self._connection, **found)
        }
        rows = [row async for row in _batch.lock_campaigns(self._connection, **found)]
        campaigns = [campaign_from(row) for row in rows]
        ids = [campaign.id for campaign in campaigns]
        crossed, unbilled = await self._crossed(ids), await self._unbilled(ids)
        asked = _approvals.campaigns_with_approvals(self._connection, ids=ids)
        self._asked |= {str(row["campaign_id"]) async for row in asked}
        return {
            campaign.id: (
                campaign,
                Account(
                    **{name: accounts[campaign.id][name] for name in _ACCOUNT_FIELDS},
                    crossed=frozenset(crossed[campaign.id]),
                    unbilled=unbilled[campaign.id],
                ),
            )
            for campaign in campaigns
            if campaign.id in accounts
        }

    async def create_campaign(self, campaign: Campaign) -> None:
        self._created.append(campaign)

    async def update_campaign(self, campaign: Campaign, previous: Campaign) -> None:
        if (campaign.budget_version, campaign.currency) != (previous.budget_version, previous.currency):
            self._rebudgeted.append(campaign)
        self._updated.append(campaign)

    async def record_crossings(
        self, campaign: Campaign, thresholds: Iterable[Threshold], *, billed: int, at: datetime
    ) -> None:
        await self._unit.record_crossings(campaign, thresholds, billed=billed, at=at)

    async def announce(self, campaign_id: str, budget_version: int, threshold: Threshold) -> bool:
        return await self._unit.announce(campaign_id, budget_version, threshold)

    async def withdraw_approvals(
        self, campaign_id: str, states: Sequence[ApprovalState], now: datetime
    ) -> list[Approval]:
        if campaign_id not in self._asked:
            return []
        return await self._unit.withdraw_approvals(campaign_id, states, now)

    async def add_to_outbox(self, topic: str, key: str, value: bytes) -> int:
        self._outbox.append((topic, key.encode(), value))
        return 0

    async def audit(self, entry: AuditEntry) -> None:
        self._entries.append(entry)

    async def write(self) -> None:
        await self._write(_batch.change_budgets, map(account_columns, self._rebudgeted))
        await self._write(_batch.update_campaigns, map(_campaign_row, self._updated))
        await self._write(_batch.create_accounts, map(account_columns, self._created))
        await self._write(_batch.create_campaigns, map(_campaign_row, self._created))
        topics, keys, values = ([row[column] for row in self._outbox] for column in range(3))
        sent = _batch.add_to_outbox(self._connection, topics=topics, keys=keys, values=values)
        self._sent += [row["id"] async for row in sent]
        for written in (self._rebudgeted, self._updated, self._created, self._outbox):
            written.clear()

    async def flush(self) -> list[int]:
        await self.write()
        await self._append_entries()
        return self._sent

    async def _write(self, statement: Any, rows: Iterable[dict[str, Any]]) -> None:
        if written := list(rows):
            await statement(self._connection, rows=to_json(written))

    async def _append_entries(self) -> None:
        if not self._entries:
            return
        organization_id = self._entries[0].organization_id
        head = await _audit.lock_head(self._connection, organization_id=organization_id)
        seq, previous, rows = head["seq"], head["hash"], []
        for entry in self._entries:
            rows.append(chain(previous, seq + 1, entry))
            seq, previous = rows[-1].seq, rows[-1].hash
        columns = {column: [getattr(row.entry, name) for row in rows] for name, column in _AUDIT.items()}
        await _batch.append_entries(
            self._connection,
            organization_id=organization_id,
            seq=seq,
            hash=previous,
            seqs=[row.seq for row in rows],
            hashes=[row.hash for row in rows],
            **columns,
        )
        self._entries.clear()

    async def _crossed(self, ids: list[str]) -> dict[str, list[Threshold]]:
        found: dict[str, list[Threshold]] = defaultdict(list)
        async for row in _batch.crossed_thresholds(self._connection, ids=ids):
            found[str(row["campaign_id"])].append(Threshold(row["threshold"]))
        return found

    async def _unbilled(self, ids: list[str]) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = defaultdict(dict)
        async for row in _batch.unbilled_by_reason(self._connection, ids=ids):
            found[str(row["campaign_id"])][row["reason"]] = row["events"]
        return found


def _campaign_row(campaign: Campaign) -> dict[str, Any]:
    """The row as JSON: its fields are the columns', but for the budget."""
    budget = campaign.budget
    return {name: getattr(campaign, name) for name in _KEPT} | {
        "budget_amount": budget.amount if budget else None,
        "budget_currency": budget.currency if budget else None,
    }
