"""Users of organizations."""

import asyncpg

from control_api.domain.users import StoredUser
from sql.load import postgres_queries

_users = postgres_queries("control_users")


class PostgresUsers:
    """In one transaction; implements handlers.access_ports.Users."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def lock_all(self, organization_id: str) -> bool:
        found = await _users.lock_users(self._connection, organization_id=organization_id)
        return found is not None

    async def create(self, user: StoredUser) -> None:
        await _users.create_user(
            self._connection,
            id=user.id,
            organization_id=user.organization_id,
            email=user.email,
            name=user.name,
            roles=list(user.roles),
            password_hash=user.password_hash,
            now=user.created_at,
        )

    async def email_is_taken(self, organization_id: str, email: str) -> bool:
        taken = await _users.email_is_taken(self._connection, organization_id=organization_id, email=email)
        return bool(taken)

    async def get(self, organization_id: str, user_id: str) -> StoredUser | None:
        row = await _users.get_user(self._connection, id=user_id, organization_id=organization_id)
        return stored_user_from(row) if row else None

    async def hold(self, organization_id: str, user_id: str) -> StoredUser | None:
        row = await _users.hold_user(self._connection, id=user_id, organization_id=organization_id)
        return stored_user_from(row) if row else None

    async def update(self, user: StoredUser) -> None:
        await _users.update_user(
            self._connection,
            id=user.id,
            organization_id=user.organization_id,
            name=user.name,
            roles=list(user.roles),
            deactivated_at=user.deactivated_at,
            password_hash=user.password_hash,
            now=user.updated_at,
        )

    async def rehash(self, user: StoredUser, password_hash: str) -> None:
        await _users.rehash_password(
            self._connection, id=user.id, organization_id=user.organization_id, password_hash=password_hash
        )

    async def other_admins(self, user: StoredUser) -> int:
        count = await _users.other_admins(self._connection, id=user.id, organization_id=user.organization_id)
        return int(count)


def stored_user_from(row: asyncpg.Record) -> StoredUser:
    """A row of control.users."""
    return StoredUser(
        id=str(row["id"]),
        organization_id=str(row["organization_id"]),
        email=row["email"],
        name=row["name"],
        roles=tuple(row["roles"]),
        password_hash=row["password_hash"],
        deactivated_at=row["deactivated_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        version=row["version"],
    )
