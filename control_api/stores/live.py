"""What streams follow, read for all of them at once."""

from collections.abc import Iterable
from typing import Any

import msgspec

from control_api.domain.live import LiveCampaign
from control_api.stores.pool import Pool
from control_api.stores.rows import account_from_json
from schemas.reasons import CampaignStatus, StatusReason, Threshold
from sql.load import postgres_queries

_live = postgres_queries("control_live")


class LiveCampaigns:
    """Implements handlers.live.Campaigns. A row that is as it was at the last look is not read again."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._last: dict[str, tuple[tuple[Any, ...], LiveCampaign]] = {}

    async def read(self, ids: Iterable[str]) -> dict[str, LiveCampaign]:
        """Those of these campaigns that are there. Raises Unavailable."""
        async with self._pool.connection() as connection:
            rows = [tuple(row.values()) async for row in _live.states_of(connection, ids=list(ids))]
        self._last = {row[0]: self._read(row) for row in rows}
        return {campaign_id: campaign for campaign_id, (_, campaign) in self._last.items()}

    def _read(self, row: tuple[Any, ...]) -> tuple[tuple[Any, ...], LiveCampaign]:
        known = self._last.get(row[0])
        if known is not None and known[0] == row:
            return known
        campaign_id, status, reason, version, budget_version, start_date, account, unbilled, crossed = row
        counted = msgspec.structs.replace(
            account_from_json(account, unbilled), crossed=frozenset(map(Threshold, crossed or ()))
        )
        return row, LiveCampaign(
            id=campaign_id,
            status=CampaignStatus(status),
            status_reason=StatusReason(reason) if reason else None,
            version=version,
            budget_version=budget_version,
            start_date=start_date,
            account=counted,
        )
