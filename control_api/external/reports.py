"""ClickHouse as reports read it. It may be away or slow: then reports are refused, and nothing else is."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime
from typing import Any

import structlog
from aiohttp import ClientError
from clickhouse_connect.driver import create_async_client
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import ClickHouseError

from control_api.domain.performance import Counted, Dimension
from control_api.domain.period import Interval, Period, moment_at
from control_api.errors import Unavailable
from sql.load import clickhouse_query

log = structlog.get_logger(__name__)

_CONNECT_SECONDS = 1
_ANSWER_SECONDS = 8
_WAIT_SECONDS = 10.0
_AT_ONCE, _MOST_WAITING = 8, 64
"""Queries of this process, and those that wait for their turn; each has _WAIT_SECONDS for both."""
_AWAY = (ClickHouseError, ClientError, OSError, TimeoutError)


class ClickHouse:
    """ClickHouse, with bounded waits. One organization has half of the turns, and of the places to wait for
    one, at most: its dashboards leave the others theirs."""

    def __init__(self, dsn: str | None) -> None:
        self._dsn = dsn
        self._client: AsyncClient | None = None
        self._opening = asyncio.Lock()
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._limits: set[asyncio.Timeout] = set()
        """Of all queries that run or wait."""
        self._shares: dict[str, _Share] = {}

    def reports(self, organization_id: str) -> "ClickHouseReports":
        """What it has stored, for one organization."""
        return ClickHouseReports(self, organization_id)

    def give_up(self) -> None:
        """Fails what ClickHouse keeps waiting: the process ends."""
        for limit in self._limits:
            limit.reschedule(0)

    async def close(self) -> None:
        """Ends its connections."""
        if self._client is not None:
            await self._client.close()

    async def ask(self, organization_id: str, name: str, **parameters: Any) -> list[dict[str, Any]]:
        """The rows of a named query. Raises Unavailable, also when too many are asked for at this moment."""
        if len(self._limits) >= _AT_ONCE + _MOST_WAITING:
            raise Unavailable("too many reports are being made at this moment")
        try:
            async with asyncio.timeout(_WAIT_SECONDS) as limit:
                self._limits.add(limit)
                try:
                    async with self._share(organization_id), self._turns:
                        client = await self._open()
                        result = await client.query(clickhouse_query(name), parameters)
                finally:
                    self._limits.discard(limit)
        except _AWAY as error:
            log.warning("clickhouse.unavailable", query=name, error=repr(error)[:500])
            raise Unavailable("reports cannot be read at this moment") from error
        columns = result.column_names
        return [dict(zip(columns, row, strict=True)) for row in result.result_rows]

    @contextlib.asynccontextmanager
    async def _share(self, organization_id: str) -> AsyncIterator[None]:
        share = self._shares.setdefault(organization_id, _Share())
        if share.asked >= (_AT_ONCE + _MOST_WAITING) // 2:
            raise Unavailable("too many reports of the organization are being made at this moment")
        share.asked += 1
        try:
            async with share.turns:
                yield
        finally:
            share.asked -= 1
            if not share.asked:
                del self._shares[organization_id]

    async def _open(self) -> AsyncClient:
        """The client asks the server for its version when it is made, so it is made when it is needed."""
        if self._dsn is None:
            raise Unavailable("reports are not set up here: FLIGHTLINE_CLICKHOUSE is not set")
        async with self._opening:
            if self._client is None:
                self._client = await create_async_client(
                    dsn=self._dsn,
                    connect_timeout=_CONNECT_SECONDS,
                    send_receive_timeout=_ANSWER_SECONDS,
                    connector_limit=_AT_ONCE,
                    connector_limit_per_host=_AT_ONCE,
                    query_retries=1,
                    settings={"max_execution_time": _ANSWER_SECONDS},
                )
            return self._client


class _Share:
    """Of one organization: its turns, and how many of its queries run or wait."""

    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(_AT_ONCE // 2)
        self.asked = 0


class ClickHouseReports:
    """Implements handlers.performance.Reports."""

    def __init__(self, clickhouse: ClickHouse, organization_id: str) -> None:
        self._clickhouse = clickhouse
        self._organization_id = organization_id

    async def totals(self, campaign_id: str, period: Period) -> Counted:
        """All events of the period."""
        (row,) = await self._ask("period_totals", campaign=campaign_id, **_bounds(period))
        return _counted(row)

    async def series(
        self, campaign_id: str, period: Period, interval: Interval
    ) -> list[tuple[datetime, Counted]]:
        """By the beginning of each minute, hour or day that has events."""
        zone = {} if interval is Interval.MINUTE else {"tz": period.zone}
        rows = await self._ask(f"series_by_{interval}", campaign=campaign_id, **_bounds(period), **zone)
        if interval is Interval.DAY:
            return [(moment_at(row["day"], period.zone), _counted(row)) for row in rows]
        return [(_aware(row["at"]), _counted(row)) for row in rows]

    async def groups(
        self, campaign_id: str, period: Period, dimensions: Sequence[Dimension], most: int
    ) -> list[tuple[dict[str, str], Counted]]:
        """By channel, variant and country, as far as they are asked for."""
        asked = {f"by_{name}": int(name in dimensions) for name in Dimension}
        rows = await self._ask("period_groups", campaign=campaign_id, limit=most, **_bounds(period), **asked)
        return [({name: row[name] for name in Dimension}, _counted(row)) for row in rows]

    async def visitors(self, campaign_id: str, since: date, until: date) -> int:
        """About; see the query."""
        (row,) = await self._ask("reach", campaign=campaign_id, **{"from": since, "to": until})
        return int(row["visitors"])

    async def visitors_by_day(self, campaign_id: str, period: Period) -> dict[date, int]:
        """About; see the query."""
        rows = await self._ask("reach_by_local_day", campaign=campaign_id, tz=period.zone, **_bounds(period))
        return {row["day"]: row["visitors"] for row in rows}

    async def _ask(self, name: str, **parameters: Any) -> list[dict[str, Any]]:
        return await self._clickhouse.ask(self._organization_id, name, **parameters)


def _bounds(period: Period) -> dict[str, datetime]:
    return {"from": period.start, "to": period.end}


def _counted(row: dict[str, Any]) -> Counted:
    counted = {name: row[name] for name in Counted.__struct_fields__ if name in row}
    if "last_updated" in counted:
        newest = _aware(counted["last_updated"])
        counted["last_updated"] = newest if newest.timestamp() else None  # of no rows it is the epoch
    return Counted(**counted)


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)
