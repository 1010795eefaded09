"""What saving a change of a campaign needs of a transaction."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

from control_api.domain.approval import Approval, ApprovalState
from control_api.domain.audit import AuditEntry
from control_api.domain.campaign import Campaign
from schemas.reasons import Threshold


class Writes(Protocol):
    """A part of a transaction (ports.Unit), or a batch that writes many at once (work_ports.Batch)."""

    async def update_campaign(self, campaign: Campaign, previous: Campaign) -> None: ...

    async def record_crossings(
        self, campaign: Campaign, thresholds: Iterable[Threshold], *, billed: int, at: datetime
    ) -> None: ...

    async def announce(self, campaign_id: str, budget_version: int, threshold: Threshold) -> bool: ...

    async def withdraw_approvals(
        self, campaign_id: str, states: Sequence[ApprovalState], now: datetime
    ) -> list[Approval]:
        """Withdraws the campaign's approvals that are in one of these states, and returns them."""

    async def add_to_outbox(self, topic: str, key: str, value: bytes) -> int: ...

    async def audit(self, entry: AuditEntry) -> None: ...
