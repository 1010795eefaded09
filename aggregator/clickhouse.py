"""A client of ClickHouse that is made when it is needed first: billing starts while ClickHouse is away."""

import asyncio
from typing import Any

from clickhouse_connect.driver import create_async_client
from clickhouse_connect.driver.asyncclient import AsyncClient

_CONNECT_SECONDS = 5
_ANSWER_SECONDS = 60


class ClickHouse:
    """clickhouse-connect's client asks the server for its version when it is made; this one waits with that.

    All calls raise what clickhouse-connect raises, also when the client can't be made yet.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._client: AsyncClient | None = None
        self._opening = asyncio.Lock()

    async def command(self, *args: Any, **settings: Any) -> Any:
        """A statement without rows, or an insert; as AsyncClient.command."""
        return await (await self._open()).command(*args, **settings)

    async def query(self, *args: Any, **settings: Any) -> Any:
        """A query; as AsyncClient.query."""
        return await (await self._open()).query(*args, **settings)

    async def query_column_block_stream(self, *args: Any, **settings: Any) -> Any:
        """A query that is read as it comes; as AsyncClient.query_column_block_stream."""
        return await (await self._open()).query_column_block_stream(*args, **settings)

    async def close(self) -> None:
        """Closes the connections, if there are any."""
        if self._client is not None:
            await self._client.close()

    async def _open(self) -> AsyncClient:
        async with self._opening:
            if self._client is None:
                self._client = await create_async_client(
                    dsn=self._dsn, connect_timeout=_CONNECT_SECONDS, send_receive_timeout=_ANSWER_SECONDS
                )
            return self._client
