"""Postgres as handlers see it: transactions that are tried again, and reads without a lock."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Self, TypeVar

import asyncpg

from control_api.domain.account import Account
from control_api.domain.campaign import Campaign
from control_api.domain.keys import StoredKey
from control_api.domain.organization import Organization, User
from control_api.errors import MalformedRequest, NameTaken, RolledBack, Unavailable
from control_api.handlers.listing import ListQuery
from control_api.stores.listing import list_statement, listed_account
from control_api.stores.pool import Pool
from control_api.stores.rows import (
    campaign_from,
    key_from,
    organization_from,
    unfollowed_from,
    user_from,
)
from control_api.stores.unit import PostgresUnit, read_account
from control_api.turns import in_turns
from schemas.budget_gates import BudgetGate
from sql.load import postgres_queries
from sql.outbox import RELAY_SESSION
from sql.readback import READBACK_SESSION

T = TypeVar("T")

_campaigns = postgres_queries("control_campaigns")
_organizations = postgres_queries("control_organizations")
_keys = postgres_queries("control_keys")
_outbox = postgres_queries("control_outbox")
_ledger = postgres_queries("control_ledger")

_ATTEMPTS = 4
_NAME_INDEX = "campaigns_name_unique"


class Database:
    """Postgres as handlers see it (handlers.ports.Store). It may be away: then every call raises Unavailable,
    and works again as soon as Postgres does."""

    goes_on = False

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @classmethod
    def of(cls, dsn: str, *, pool_size: int = 10) -> Self:
        """With connections of its own."""
        return cls(Pool(dsn, pool_size))

    @property
    def pool(self) -> Pool:
        """Its connections, for another way to use them."""
        return self._pool

    def close(self) -> None:
        """Ends all connections at once, for good: every call raises Unavailable from now on."""
        self._pool.close()

    async def connect(self) -> asyncpg.Connection:
        """A connection outside the pool, for the outbox relay."""
        return await self._pool.connect(RELAY_SESSION)

    async def connect_for_readback(self) -> asyncpg.Connection:
        """A connection outside the pool, for the read-back of compacted topics."""
        return await self._pool.connect(READBACK_SESSION)

    async def in_transaction(self, work: Callable[[PostgresUnit], Awaitable[T]]) -> T:
        """Runs `work` in one transaction, again when Postgres rolled it back for the sake of another one.

        After a connection is lost it is not run again: whether it was committed is not known.
        """
        for _ in range(_ATTEMPTS):
            try:
                async with self._pool.connection() as connection, connection.transaction():
                    return await work(PostgresUnit(connection))
            except RolledBack:
                continue
            except asyncpg.UniqueViolationError as error:
                if error.constraint_name == _NAME_INDEX:
                    raise NameTaken("another campaign of the organization has this name") from error
                raise
        raise Unavailable("the campaign is being changed by others at this moment")

    async def campaign(self, organization_id: str, campaign_id: str) -> tuple[Campaign, Account] | None:
        """A campaign with its account."""
        async with self._pool.connection() as connection:
            row = await _campaigns.get_campaign(connection, id=campaign_id, organization_id=organization_id)
        return (campaign_from(row), read_account(row)) if row else None

    async def campaigns(self, query: ListQuery) -> list[tuple[Campaign, Account | None, str]]:
        """A page of campaigns, with their accounts if they are wanted, and the sort key of each. Raises
        MalformedRequest for a position that nothing can stand at."""
        text, values = list_statement(query)
        try:
            async with self._pool.connection() as connection:
                rows = await connection.fetch(text, *values)
        except asyncpg.DataError as error:
            if query.after_key is None:
                raise
            raise MalformedRequest("cursor is not one of this list's") from error
        return await in_turns(
            lambda row: (campaign_from(row), listed_account(row), str(row["sort_key"])), rows
        )

    async def organization(self, organization_id: str) -> Organization | None:
        """An organization with its limits."""
        async with self._pool.connection() as connection:
            row = await _organizations.get_organization(connection, id=organization_id)
        return organization_from(row) if row else None

    async def user(self, organization_id: str, user_id: str) -> User | None:
        """A user of the organization."""
        async with self._pool.connection() as connection:
            row = await _organizations.get_user(connection, id=user_id, organization_id=organization_id)
        return user_from(row) if row else None

    async def keys(self, organization_id: str, after: str | None, most: int) -> list[StoredKey]:
        """Some keys of an organization for the doors, in order of their making."""
        async with self._pool.connection() as connection:
            rows = _keys.list_keys(connection, organization_id=organization_id, after=after, most=most)
            return [key_from(row) async for row in rows]

    async def unfollowed_crossings(self, since: datetime, before: datetime, most: int) -> list[BudgetGate]:
        """Crossings of campaigns that are not deleted, recorded between these moments and followed by nobody
        yet: as the gates that would tell of them."""
        async with self._pool.connection() as connection:
            rows = _ledger.unfollowed_crossings(connection, since=since, before=before, most=most)
            return [unfollowed_from(row) async for row in rows]

    async def is_published(self, ids: Sequence[int]) -> bool:
        """Whether Kafka has acked these rows of the outbox."""
        async with self._pool.connection() as connection:
            return bool(await _outbox.is_published(connection, ids=list(ids)))

    async def outbox_backlog(self) -> int:
        """How many records wait for Kafka."""
        async with self._pool.connection() as connection:
            return int(await _outbox.outbox_backlog(connection))
