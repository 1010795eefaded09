"""The audit log, read: page by page from the newest, or whole from the oldest."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Protocol

import msgspec

from control_api.domain.audit import ChainedEntry
from control_api.errors import MalformedRequest
from control_api.handlers.listing import read_cursor, write_cursor

_ORDER = "audit"
_AT_ONCE = 1_000
_DIGITS = 18


class AuditQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries; a filter that is None does not filter. `since` is inclusive, `until` is not."""

    organization_id: str
    actor: str | None = None
    actions: list[str] | None = None
    subject: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class AuditPage(msgspec.Struct, frozen=True):
    """One page, and where the next one begins."""

    items: list[ChainedEntry]
    next_cursor: str | None


class AuditLog(Protocol):
    """Where it is read. Raises Unavailable while that cannot be."""

    async def newest(self, query: AuditQuery, before: int | None, most: int) -> list[ChainedEntry]: ...

    async def oldest(self, query: AuditQuery, after: int, up_to: int, most: int) -> list[ChainedEntry]: ...

    async def length(self, organization_id: str) -> int:
        """The place of the last entry."""


async def page(log: AuditLog, query: AuditQuery, cursor: str | None, limit: int) -> AuditPage:
    """Newest first. Raises MalformedRequest for a cursor of another list."""
    rows = await log.newest(query, _place(cursor) if cursor else None, limit + 1)
    shown = rows[:limit]
    following = write_cursor(_ORDER, str(shown[-1].seq), query.organization_id) if len(rows) > limit else None
    return AuditPage(shown, following)


async def export(log: AuditLog, query: AuditQuery) -> AsyncIterator[list[ChainedEntry]]:
    """All that there is at this moment, oldest first, some at a time; no transaction is held in between."""
    up_to, after = await log.length(query.organization_id), 0
    while rows := await log.oldest(query, after, up_to, _AT_ONCE):
        yield rows
        after = rows[-1].seq


def _place(cursor: str) -> int:
    key, _ = read_cursor(cursor, _ORDER)
    if not key.isdecimal() or len(key) > _DIGITS:
        raise MalformedRequest("cursor is not one of this list's")
    return int(key)
