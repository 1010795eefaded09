"""`flightline doctor`: what can be reached, what is missing, and how to mend it."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import clickhouse_connect
import msgspec
from aiokafka.errors import KafkaError
from clickhouse_connect.driver.exceptions import ClickHouseError

from compose import ready, target, topics
from compose.addresses import KAFKA, Addresses, given
from compose.engines import kafka, kafka_pins
from compose.engines.clickhouse import responds
from compose.errors import ComposeError
from compose.layout import Ports, State, is_free
from schemas.addresses import host_and_port
from sql.migrate import MigrationError, migrations, pending

_WITHIN_S = 15
_LOW_DISK = 2 * 1024**3


_KNOWS_LOSSES = "SELECT to_regclass('ledger.losses') IS NOT NULL"
_LOST = (
    "SELECT (SELECT count(*) FROM ledger.incarnations),"
    " (SELECT coalesce(sum(event_rows), 0)::bigint FROM ledger.losses)"
)


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at; `mend` is empty when nothing is to be done."""

    what: str
    ok: bool
    detail: str
    mend: str = ""


async def examine(state: State, ports: Ports, environ: Mapping[str, str]) -> list[Finding]:
    """All findings, each check bounded; a check that fails unexpectedly is a finding, too."""
    findings = [_jars(), _disk(state.root)]
    try:
        given(environ)
    except ComposeError as error:
        return [*findings, Finding("settings", ok=False, detail=str(error), mend="correct the variable")]
    try:
        addresses = target.addresses(state, environ)
    except ComposeError as error:
        findings.append(Finding("stack", ok=False, detail="not running", mend=str(error)))
        return findings + _ports(ports)
    checks: list[tuple[str, Callable[[], Awaitable[list[Finding]]]]] = [
        ("Kafka", lambda: _kafka(addresses)),
        ("Postgres", lambda: _postgres(addresses)),
        ("ClickHouse", lambda: _clickhouse(addresses)),
        ("services", lambda: _services(state)),
    ]
    results = await asyncio.gather(*(_bounded(name, check) for name, check in checks))
    return findings + [finding for found in results for finding in found]


async def _bounded(name: str, check: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
    try:
        return await asyncio.wait_for(check(), _WITHIN_S)
    except TimeoutError:
        detail = f"no answer within {_WITHIN_S} s"
    except (
        OSError,
        aiohttp.ClientError,
        msgspec.MsgspecError,
        ComposeError,
        KafkaError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        ClickHouseError,
        ValueError,
        MigrationError,
    ) as error:
        detail = f"{type(error).__name__}: {error}"
    mend = f"is the address right, and does it run? (FLIGHTLINE_{name.upper()}, or `flightline up`)"
    return [Finding(name, ok=False, detail=detail.strip(), mend=mend)]


def _jars() -> Finding:
    try:
        kafka_pins.classpath()
    except ComposeError as error:
        return Finding("Kafka's jars", ok=False, detail=str(error), mend="make setup")
    return Finding("Kafka's jars", ok=True, detail=f"{kafka_pins.KAFKA_VERSION}, as pinned")


def _disk(root: Path) -> Finding:
    existing = next(folder for folder in (root, *root.resolve().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    enough = free > _LOW_DISK
    mend = (
        "" if enough else f"make room, or put the state elsewhere with --state (needs {_LOW_DISK >> 30} GiB)"
    )
    return Finding("disk", enough, f"{free / 1024**3:.1f} GiB free for {root}", mend)


def _ports(ports: Ports) -> list[Finding]:
    taken = [f"{port} ({name})" for name, port in msgspec.structs.asdict(ports).items() if not is_free(port)]
    if not taken:
        return [Finding("ports", ok=True, detail="all free")]
    return [
        Finding("ports", ok=False, detail=f"in use: {', '.join(taken)}", mend="choose with --port-base N")
    ]


async def _kafka(addresses: Addresses) -> list[Finding]:
    servers = addresses.kafka.split(",")
    answered = [server for server in servers if await _broker_answers(server)]
    if not answered:
        raise ConnectionError(f"no broker answers on {addresses.kafka}")
    missing = await topics.differences(addresses.kafka)
    silent = [server for server in servers if server not in answered]
    detail = f"answers on {','.join(answered)}" + (f", not on {','.join(silent)}" if silent else "")
    reached = Finding("Kafka", ok=True, detail=detail)
    if missing:
        mend = "`flightline migrate` creates and corrects topics"
        return [reached, Finding("topics", ok=False, detail="; ".join(missing), mend=mend)]
    return [reached, Finding("topics", ok=True, detail="all there, as configured")]


async def _broker_answers(server: str) -> bool:
    host, port = host_and_port(KAFKA, server)
    return await kafka.answers(host, port)


async def _postgres(addresses: Addresses) -> list[Finding]:
    connection = await asyncpg.connect(addresses.postgres, timeout=5)
    try:
        version = await connection.fetchval("SHOW server_version")
        user = await connection.fetchval("SELECT current_user")
        may = await connection.fetchval("SELECT has_schema_privilege(current_schema(), 'CREATE')")
        table = await connection.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL")
        rows = await connection.fetch("SELECT name, checksum FROM schema_migrations") if table else []
        lost = await connection.fetchrow(_LOST) if await connection.fetchval(_KNOWS_LOSSES) else None
    finally:
        await connection.close()
    mend = "" if may else f"GRANT CREATE ON SCHEMA public TO {user}"
    return [
        Finding("Postgres", ok=True, detail=f"version {version}, as {user}"),
        Finding("Postgres rights", bool(may), "may create tables" if may else "may not create tables", mend),
        _migrated("Postgres", {row["name"]: row["checksum"] for row in rows}),
        *([_losses(*lost)] if lost else []),
    ]


def _losses(new_logs: int, event_rows: int) -> Finding:
    """Logs that were cut back or replaced are told, rows that were lost with them are to be dealt with."""
    if not new_logs and not event_rows:
        return Finding("losses", ok=True, detail="none")
    detail = f"{new_logs} times a partition went on in another log"
    if not event_rows:
        return Finding(
            "losses", ok=True, detail=f"{detail}; ClickHouse lacks nothing (see `flightline reconcile`)"
        )
    return Finding(
        "losses",
        ok=False,
        detail=f"{detail}; {event_rows} billed events will never be in ClickHouse",
        mend="`flightline reconcile` names them; this is told until the rows of ledger.losses are deleted",
    )


async def _clickhouse(addresses: Addresses) -> list[Finding]:
    client = await clickhouse_connect.get_async_client(dsn=addresses.clickhouse, connect_timeout=5)
    try:
        version = client.server_version
        table = await client.query("EXISTS TABLE schema_migrations")
        readonly = (await client.query("SELECT getSetting('readonly')")).result_rows[0][0]
        rows = []
        if table.result_rows[0][0]:
            rows = list((await client.query("SELECT name, checksum FROM schema_migrations")).result_rows)
    finally:
        await client.close()
    mend = "give the services a user that may create and insert" if int(readonly) else ""
    return [
        Finding("ClickHouse", ok=True, detail=f"version {version}"),
        Finding("ClickHouse rights", not int(readonly), f"readonly = {readonly}", mend),
        _migrated("ClickHouse", {str(name): str(checksum) for name, checksum in rows}),
    ]


def _migrated(engine: str, applied: dict[str, str]) -> Finding:
    todo = pending(migrations(engine.lower()), applied)
    if todo:
        names = ", ".join(migration.name for migration in todo)
        return Finding(f"{engine} tables", ok=False, detail=f"missing: {names}", mend="flightline migrate")
    return Finding(f"{engine} tables", ok=True, detail=f"{len(applied)} migrations applied")


async def _services(state: State) -> list[Finding]:
    try:
        running = ready.read(state)
    except ComposeError:
        return []  # clusters elsewhere: the services are not ours to know
    if not running.admin_token:
        return [Finding("services", ok=True, detail="not started (--only-engines)")]
    found = []
    for name, address in {"ingest": running.ingest, "control API": running.control_api}.items():
        answered = await responds(f"{address}/ready")
        mend = "" if answered else f"see the logs in {state.logs}"
        found.append(Finding(name, answered, f"{address} {'is ready' if answered else 'is not ready'}", mend))
    if trouble := await _trouble(running.ingest):
        mend = "Kafka and the disk of the spool: what was promised is safe, and drained by itself"
        found.append(Finding("spool", ok=False, detail=trouble, mend=mend))
    return found


async def _trouble(door: str) -> str:
    """What a door says of itself when it is ready, but not as it should be; empty when all is well."""
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
        session.get(f"{door}/ready") as answer,
    ):
        content = msgspec.json.decode(await answer.read(), type=dict[str, Any])
    return str(content["detail"]) if content.get("status") == "degraded" else ""
