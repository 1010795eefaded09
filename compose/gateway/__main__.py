"""`python -m compose.gateway`: ClickHouse, embedded, on a port. Settings come from the environment."""

import logging
import os
from pathlib import Path

import structlog
from aiohttp import web

from compose.gateway.engine import Engine
from compose.gateway.http import Gateway, User
from compose.log import configure


def main() -> None:
    """FLIGHTLINE_STATE is the folder, FLIGHTLINE_BIND host:port, FLIGHTLINE_CLICKHOUSE_DATABASE a database to
    create; `default` may do all, `dashboards` read, with the passwords FLIGHTLINE_CLICKHOUSE_PASSWORD and
    FLIGHTLINE_CLICKHOUSE_DASHBOARDS_PASSWORD.
    """
    configure()
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    host, _, port = os.environ["FLIGHTLINE_BIND"].rpartition(":")
    engine = Engine(Path(os.environ["FLIGHTLINE_STATE"]))
    engine.create_database(os.environ["FLIGHTLINE_CLICKHOUSE_DATABASE"])
    users = (
        User("default", os.environ["FLIGHTLINE_CLICKHOUSE_PASSWORD"], read_only=False),
        User("dashboards", os.environ["FLIGHTLINE_CLICKHOUSE_DASHBOARDS_PASSWORD"], read_only=True),
    )
    structlog.get_logger(__name__).info("serving", bind=f"{host}:{port}")
    # Requests under way at SIGTERM get this long; a row that was answered is in its file already.
    # aiohttp must not inflate bodies: the gateway does, by Content-Encoding, lz4 and zstd too.
    web.run_app(
        Gateway(engine, users).app(),
        host=host,
        port=int(port),
        print=None,
        access_log=None,
        shutdown_timeout=5,
        reuse_address=True,
        auto_decompress=False,
        max_line_size=256 * 1024,  # parameters come in the URL
    )


if __name__ == "__main__":
    main()
