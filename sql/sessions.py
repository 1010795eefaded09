"""What pools of connections to Postgres share."""

import asyncpg


async def keep(_: asyncpg.Connection) -> None:
    """Gives a connection back as it is: asyncpg would ask Postgres to reset its session after each use, which
    takes as long as a query. So no user of a pool may change a session: settings and locks are of a
    transaction (SET LOCAL, pg_advisory_xact_lock). One that is still open is rolled back all the same."""
