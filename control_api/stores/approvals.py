"""Approvals in a transaction."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from control_api.domain.approval import Approval, ApprovalState, Asked
from schemas.money import Micros
from sql.load import postgres_queries

_approvals = postgres_queries("control_approvals")


class ApprovalStore:
    """Implements handlers.work_ports.Approvals."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def add(self, approval: Approval) -> bool:
        asked = approval.asked
        status: str = await _approvals.add_approval(
            self._connection,
            id=approval.id,
            organization_id=approval.organization_id,
            campaign_id=approval.campaign_id,
            budget_version=asked.budget_version,
            for_pending=asked.for_pending,
            budget=asked.budget,
            currency=asked.currency,
            asked_by=approval.asked_by,
            asked_at=approval.asked_at,
            ask_comment=approval.ask_comment,
        )
        return status.endswith(" 1")

    async def get(self, organization_id: str, campaign_id: str, approval_id: str) -> Approval | None:
        row = await _approvals.get_approval(
            self._connection, id=approval_id, campaign_id=campaign_id, organization_id=organization_id
        )
        return _approval_from(row) if row else None

    async def of_campaign(
        self, campaign_id: str, states: Sequence[str] | None, after: str | None, most: int
    ) -> list[Approval]:
        rows = _approvals.approvals_of_campaign(
            self._connection, campaign_id=campaign_id, states=states, after=after, most=most
        )
        return [_approval_from(row) async for row in rows]

    async def page(
        self, organization_id: str, states: Sequence[str] | None, after: str | None, most: int
    ) -> list[Approval]:
        rows = _approvals.approvals_page(
            self._connection, organization_id=organization_id, states=states, after=after, most=most
        )
        return [_approval_from(row) async for row in rows]

    async def decide(self, approval: Approval) -> None:
        await _approvals.decide_approval(
            self._connection,
            id=approval.id,
            state=approval.state.value,
            decided_by=approval.decided_by,
            decided_at=approval.decided_at,
            decide_comment=approval.decide_comment,
        )

    async def withdraw(
        self, campaign_id: str, states: Sequence[ApprovalState], now: datetime
    ) -> list[Approval]:
        """As handlers.writes.Writes.withdraw_approvals."""
        rows = _approvals.withdraw_approvals(
            self._connection, campaign_id=campaign_id, states=[state.value for state in states], now=now
        )
        return [_approval_from(row) async for row in rows]


def _approval_from(row: asyncpg.Record) -> Approval:
    budget = None if row["budget"] is None else Micros(row["budget"])
    return Approval(
        id=str(row["id"]),
        organization_id=str(row["organization_id"]),
        campaign_id=str(row["campaign_id"]),
        asked=Asked(budget, row["currency"], row["budget_version"], row["for_pending"]),
        state=ApprovalState(row["state"]),
        asked_by=str(row["asked_by"]),
        asked_at=row["asked_at"],
        ask_comment=row["ask_comment"],
        decided_by=str(row["decided_by"]) if row["decided_by"] else None,
        decided_at=row["decided_at"],
        decide_comment=row["decide_comment"],
    )
