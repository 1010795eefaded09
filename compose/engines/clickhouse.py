"""ClickHouse: chdb in a process of its own, behind the gateway."""

import sys
from pathlib import Path

import aiohttp

from compose.layout import HOST
from compose.process import ProcessSpec

DATABASE = "flightline"


def url(port: int, password: str, database: str = DATABASE, user: str = "default") -> str:
    """The address of a database, with the credentials of `user`."""
    return f"http://{user}:{password}@{HOST}:{port}/{database}"


async def prepare(data: Path, port: int, password: str, dashboards_password: str) -> ProcessSpec:
    """Says how to run it; the folder is made by the process itself."""
    return ProcessSpec(
        name="clickhouse",
        log="clickhouse",
        argv=[sys.executable, "-m", "compose.gateway"],
        env={
            "FLIGHTLINE_STATE": str(data),
            "FLIGHTLINE_BIND": f"{HOST}:{port}",
            "FLIGHTLINE_CLICKHOUSE_DATABASE": DATABASE,
            "FLIGHTLINE_CLICKHOUSE_PASSWORD": password,
            "FLIGHTLINE_CLICKHOUSE_DASHBOARDS_PASSWORD": dashboards_password,
        },
        is_ready=lambda: responds(f"http://{HOST}:{port}/ping"),
    )


async def responds(address: str) -> bool:
    """Whether a GET there is answered with 200."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
            session.get(address) as answer,
        ):
            return answer.status == 200  # noqa: PLR2004 - the status itself
    except (TimeoutError, aiohttp.ClientError, OSError):
        return False
