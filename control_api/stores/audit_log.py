"""The audit log, read."""

from typing import Any

import asyncpg

from control_api.domain.audit import AuditEntry, ChainedEntry
from control_api.handlers.audit_log import AuditQuery
from control_api.stores.pool import Pool
from sql.load import postgres_queries

_pages = postgres_queries("control_audit_pages")


class PostgresAuditLog:
    """Implements handlers.audit_log.AuditLog."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def newest(self, query: AuditQuery, before: int | None, most: int) -> list[ChainedEntry]:
        async with self._pool.connection() as connection:
            rows = _pages.newest(connection, **_filters(query), before_seq=before, most=most)
            return [entry_from(row) async for row in rows]

    async def oldest(self, query: AuditQuery, after: int, up_to: int, most: int) -> list[ChainedEntry]:
        async with self._pool.connection() as connection:
            rows = _pages.oldest(connection, **_filters(query), after_seq=after, up_to=up_to, most=most)
            return [entry_from(row) async for row in rows]

    async def length(self, organization_id: str) -> int:
        async with self._pool.connection() as connection:
            return int(await _pages.head_of(connection, organization_id=organization_id) or 0)


def entry_from(row: asyncpg.Record) -> ChainedEntry:
    """A row of control.audit."""
    fields: dict[str, Any] = {name: row[name] for name in AuditEntry.__struct_fields__}
    fields["organization_id"] = str(fields["organization_id"])
    return ChainedEntry(row["seq"], AuditEntry(**fields), bytes(row["hash"]))


def _filters(query: AuditQuery) -> dict[str, Any]:
    return {name: getattr(query, name) for name in AuditQuery.__struct_fields__}
