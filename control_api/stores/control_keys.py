"""Keys for this API."""

from datetime import datetime

import asyncpg

from control_api.domain.control_keys import StoredControlKey
from control_api.domain.permissions import Permission
from sql.load import postgres_queries

_access = postgres_queries("control_access")


class PostgresControlKeys:
    """In one transaction; implements handlers.access_ports.ControlKeys."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def create(self, key: StoredControlKey) -> None:
        await _access.create_control_key(
            self._connection,
            id=key.id,
            organization_id=key.organization_id,
            name=key.name,
            key_hash=key.key_hash,
            hint=key.hint,
            scopes=[scope.value for scope in key.scopes],
            created_by=key.created_by,
            created_at=key.created_at,
            expires_at=key.expires_at,
        )

    async def lock(self, organization_id: str, key_id: str) -> StoredControlKey | None:
        row = await _access.lock_control_key(self._connection, id=key_id, organization_id=organization_id)
        return control_key_from(row) if row else None

    async def revoke(self, key_id: str, now: datetime) -> None:
        await _access.revoke_control_key(self._connection, id=key_id, now=now)


def control_key_from(row: asyncpg.Record) -> StoredControlKey:
    """A row of control.control_keys."""
    return StoredControlKey(
        id=str(row["id"]),
        organization_id=str(row["organization_id"]),
        name=row["name"],
        key_hash=row["key_hash"],
        hint=row["hint"],
        scopes=tuple(Permission(scope) for scope in row["scopes"]),
        created_by=str(row["created_by"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        last_used_at=row["last_used_at"],
        revoked_at=row["revoked_at"],
    )
