"""What must be there before the services start: topics, tables, and an organization with its keys."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import clickhouse_connect
import msgspec
from clickhouse_connect.driver.exceptions import ClickHouseError

from compose import topics
from compose.addresses import Addresses
from compose.errors import ComposeError
from compose.secrets import Secrets, save
from compose.services import Settings, control_api_environment
from schemas.access_keys import KeyKind
from schemas.ids import new_id
from sql.migrate import ClickHouseLayout, MigrationError, migrate_clickhouse, migrate_postgres

if TYPE_CHECKING:
    from control_api import bootstrap as control


class Bootstrapped(msgspec.Struct, frozen=True):
    """The first organization's admin, and the secrets with its keys."""

    admin_token: str
    secrets: Secrets


def _tracking_partitions() -> int:
    text = os.environ.get("FLIGHTLINE_TRACKING_PARTITIONS", str(topics.EMBEDDED_PARTITIONS))
    if not text.isdecimal() or int(text) == 0:
        raise ComposeError(f"FLIGHTLINE_TRACKING_PARTITIONS must be a positive number, not {text!r}")
    return int(text)


async def create_topics(addresses: Addresses) -> list[str]:
    """Creates the missing topics, with up to three replicas."""
    return await topics.ensure_topics(addresses.kafka, _tracking_partitions())


async def migrate(addresses: Addresses) -> list[str]:
    """Applies the pending migrations of Postgres and ClickHouse; returns their names. Raises ComposeError."""
    try:
        return await _migrate_postgres(addresses.postgres) + await _migrate_clickhouse(addresses.clickhouse)
    except (MigrationError, asyncpg.PostgresError, ClickHouseError, OSError) as error:
        raise ComposeError(f"the databases could not be migrated: {error}") from error


async def _migrate_postgres(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        return await migrate_postgres(connection)
    finally:
        await connection.close()


async def _migrate_clickhouse(dsn: str) -> list[str]:
    client = await clickhouse_connect.get_async_client(dsn=dsn)
    try:
        return await migrate_clickhouse(client, ClickHouseLayout())
    finally:
        await client.close()


async def bootstrap(settings: Settings, secrets_file: Path) -> Bootstrapped:
    """Makes the first organization, its admin and a key of each kind for the door, unless they are there.

    The keys are kept in `secrets_file`."""
    from control_api import bootstrap as control  # noqa: PLC0415  only a full stack needs the services
    from control_api.settings import load  # noqa: PLC0415  as above

    kept = settings.secrets
    if not (kept.write_key and kept.server_key):
        # Kept before they are made known: a key that works and that nobody has would be for nothing.
        kept = msgspec.structs.replace(
            kept,
            write_key=control.new_key(KeyKind.PUBLISHABLE),
            server_key=control.new_key(KeyKind.SERVER),
        )
        save(secrets_file, kept)
    made = await control.bootstrap(
        load(control_api_environment(settings)), write_key=kept.write_key, server_key=kept.server_key
    )
    return Bootstrapped(made.admin_token, kept)


async def new_organization(settings: Settings, name: str) -> "control.Bootstrap":
    """Makes another organization, with an admin and keys of its own, which nobody keeps."""
    from control_api import bootstrap as control  # noqa: PLC0415  as above
    from control_api.settings import load  # noqa: PLC0415  as above

    return await control.bootstrap(
        load(control_api_environment(settings)),
        organization_id=new_id(),
        admin_id=new_id(),
        organization_name=name,
    )
