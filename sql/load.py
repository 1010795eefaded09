"""Named queries: `postgres/queries/OWNER.sql`, `clickhouse/queries/NAME.sql`, `sqlite/OWNER.sql`."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import aiosql

ROOT = Path(__file__).parent


@cache
def postgres_queries(owner: str) -> Any:
    """The queries of one owner as callables: `await queries.name(connection, parameter=…)`.

    Their kind stands in their name (aiosql): plain is an asynchronous generator of rows, `^` returns one row
    or None, `$` one value, `!` the command's tag, such as `UPDATE 1`.
    """
    path = ROOT / "postgres" / "queries" / f"{owner}.sql"
    return aiosql.from_path(path, "asyncpg", mandatory_parameters=False)


@cache
def postgres_parts(owner: str) -> dict[str, str]:
    """The parts of which one owner's query is put together, by name."""
    text = (ROOT / "postgres" / "queries" / f"{owner}.sql").read_text()
    _, *named = re.split(r"^-- name: (.+)\n", text, flags=re.MULTILINE)
    return {name: part.strip("\n") for name, part in zip(named[::2], named[1::2], strict=True)}


@cache
def clickhouse_query(name: str) -> str:
    """The text of one query, with ClickHouse's own `{parameter:Type}` placeholders."""
    return (ROOT / "clickhouse" / "queries" / f"{name}.sql").read_text()


@cache
def sqlite_queries(owner: str) -> Any:
    """The queries of one owner as in `postgres_queries`, but not asynchronous; `*!` takes many rows."""
    return aiosql.from_path(ROOT / "sqlite" / f"{owner}.sql", "sqlite3", mandatory_parameters=False)
