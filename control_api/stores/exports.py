"""Pages of an export, in a transaction."""

import asyncpg

from control_api.domain.account import Account
from control_api.domain.campaign import Campaign
from control_api.handlers.listing import ListQuery
from control_api.stores.rows import account_from_json, campaign_from
from sql.load import postgres_queries

_export = postgres_queries("control_export")


class ExportStore:
    """Implements handlers.work_ports.Exports."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def page(self, query: ListQuery) -> list[tuple[Campaign, Account]]:
        rows = _export.export_page(
            self._connection,
            organization_id=query.organization_id,
            after_id=query.after_id,
            statuses=query.statuses,
            types=query.types,
            channels=query.channels,
            pattern=query.pattern,
            starts_after=query.starts_after,
            starts_before=query.starts_before,
            ends_after=query.ends_after,
            ends_before=query.ends_before,
            created_after=query.created_after,
            created_before=query.created_before,
            updated_after=query.updated_after,
            page_size=query.page_size,
        )
        return [
            (campaign_from(row), account_from_json(row["account"], row["unbilled"])) async for row in rows
        ]
