"""Applies the migrations of Postgres and ClickHouse in order, each once, and refuses one that was changed."""

import hashlib
import re
from pathlib import Path
from string import Template

import asyncpg
import msgspec
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import DatabaseError

ROOT = Path(__file__).parent
_ADVISORY_LOCK = 0x666C7431


class MigrationError(Exception):
    """A migration that was applied has changed since, or the database is ahead of this release."""


class Migration(msgspec.Struct, frozen=True):
    """One numbered file; `name` is its stem, `checksum` the SHA-256 of its text."""

    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrations(engine: str) -> list[Migration]:
    """The migrations of `postgres` or `clickhouse`, in order of their numbers."""
    files = sorted((ROOT / engine / "migrations").glob("*.sql"))
    return [Migration(file.stem, file.read_text()) for file in files]


def pending(known: list[Migration], applied: dict[str, str]) -> list[Migration]:
    """Those still to apply; MigrationError when what was applied is not what stands here."""
    names = {migration.name for migration in known}
    if ahead := sorted(applied.keys() - names):
        raise MigrationError(
            f"the database has migrations that this release does not know: {', '.join(ahead)}"
        )
    for migration in known:
        if applied.get(migration.name, migration.checksum) != migration.checksum:
            raise MigrationError(f"migration {migration.name} was changed after it had been applied")
    return [migration for migration in known if migration.name not in applied]


async def migrate_postgres(connection: asyncpg.Connection) -> list[str]:
    """Applies what is pending, each in a transaction; returns the names. Safe to run from many at once."""
    await connection.execute("SELECT pg_advisory_lock($1)", _ADVISORY_LOCK)
    try:
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (name text PRIMARY KEY, checksum text NOT NULL, "
            "applied_at timestamptz NOT NULL DEFAULT now())"
        )
        rows = await connection.fetch("SELECT name, checksum FROM schema_migrations")
        todo = pending(migrations("postgres"), {row["name"]: row["checksum"] for row in rows})
        for migration in todo:
            async with connection.transaction():
                await connection.execute(migration.text)
                await connection.execute(
                    "INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)",
                    migration.name,
                    migration.checksum,
                )
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", _ADVISORY_LOCK)
    return [migration.name for migration in todo]


class ClickHouseLayout(msgspec.Struct, frozen=True):
    """What differs between one node and a cluster: the engine, and how long event rows are kept."""

    merge_tree: str = "MergeTree"
    retention_months: int = 25


_REPLICATED_ONLY = re.compile(r"^SETTINGS non_replicated_deduplication_window = (\d+)", re.MULTILINE)


def render(text: str, layout: ClickHouseLayout) -> str:
    """A ClickHouse migration for this layout (a replicated table names its token window differently)."""
    rendered = Template(text).substitute(
        merge_tree=layout.merge_tree, retention_months=str(layout.retention_months)
    )
    if layout.merge_tree.startswith("Replicated"):
        rendered = _REPLICATED_ONLY.sub(r"SETTINGS replicated_deduplication_window = \1", rendered)
    return rendered


async def migrate_clickhouse(client: AsyncClient, layout: ClickHouseLayout) -> list[str]:
    """Applies what is pending to the client's database; returns the names.

    ClickHouse has no transactions over DDL: a statement that was cut off is seen by its table being there
    already, so a file holds one statement, and CREATE … IF NOT EXISTS is not used to hide a difference.
    """
    await client.command(
        "CREATE TABLE IF NOT EXISTS schema_migrations (name String, checksum String, "
        "applied_at DateTime64(3, 'UTC') DEFAULT now64(3)) ENGINE = MergeTree ORDER BY name"
    )
    result = await client.query("SELECT name, checksum FROM schema_migrations")
    todo = pending(
        migrations("clickhouse"), {str(name): str(checksum) for name, checksum in result.result_rows}
    )
    for migration in todo:
        await _apply(client, render(migration.text, layout))
        await client.insert(
            "schema_migrations", [[migration.name, migration.checksum]], column_names=["name", "checksum"]
        )
    return [migration.name for migration in todo]


_TABLE_EXISTS = 57


async def _apply(client: AsyncClient, statement: str) -> None:
    try:
        await client.command(statement)
    except DatabaseError as error:
        # Killed between the statement and its entry: what it made is there, the entry is what is missing.
        if getattr(error, "code", None) != _TABLE_EXISTS and "TABLE_ALREADY_EXISTS" not in str(error):
            raise
