"""Campaigns whose name gives way to others, in a transaction."""

from collections.abc import Sequence

import asyncpg

from control_api.domain.campaign import Campaign
from control_api.stores.rows import account_columns, campaign_columns, campaign_from
from sql.load import postgres_queries

_copies = postgres_queries("control_copies")
_ledger = postgres_queries("control_ledger")


class CopyStore:
    """Implements handlers.work_ports.Copies."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def source(self, organization_id: str, campaign_id: str) -> Campaign | None:
        row = await _copies.get_source(self._connection, id=campaign_id, organization_id=organization_id)
        return campaign_from(row) if row else None

    async def taken(self, organization_id: str, names: Sequence[str]) -> set[str]:
        rows = _copies.taken_names(self._connection, organization_id=organization_id, names=list(names))
        return {row["name"] async for row in rows}

    async def create(self, campaign: Campaign) -> bool:
        status: str = await _copies.create_if_free(
            self._connection,
            **campaign_columns(campaign),
            organization_id=campaign.organization_id,
            created_by=campaign.created_by,
            created_at=campaign.created_at,
        )
        if not status.endswith(" 1"):
            return False
        await _ledger.create_account(self._connection, **account_columns(campaign))
        return True
