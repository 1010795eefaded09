"""ClickHouse's side: rows by coordinates, totals from the rows, totals from the projections."""

from collections.abc import Iterable, Mapping
from typing import Self

import clickhouse_connect
import msgspec

from aggregator.domain.lineage import Stretch
from aggregator.domain.rows import EventRow
from compose.reconcile.figures import Figures
from schemas.reasons import EventType, Unbilled
from sql.load import clickhouse_query

_JSON = {"output_format_json_quote_64bit_integers": 0, "max_result_rows": 0}
PROJECTIONS = ("by_quarter_hour", "by_day")


class KnownId(msgspec.Struct, frozen=True):
    """An event that was counted where the log holds nothing any more; `received_at` in epoch ms."""

    organization_id: str
    event_id: str
    received_at: int


class _Total(msgspec.Struct, frozen=True):
    campaign_id: str
    type: EventType
    events: int
    billed: int
    overdelivery: int
    revenue: int
    reason: str = ""
    bot: bool = False


_rows = msgspec.json.Decoder(EventRow)
_ids = msgspec.json.Decoder(KnownId)
_totals = msgspec.json.Decoder(_Total)


class EventRows:
    """Reads the table `events`. Use as an async context manager; clickhouse-connect's errors come through."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def __aenter__(self) -> Self:
        self._client = await clickhouse_connect.get_async_client(
            dsn=self._dsn, autogenerate_session_id=False, send_receive_timeout=600
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def between(self, partition: int, stretch: Stretch) -> list[EventRow]:
        """The rows of a range, in the order of the log."""
        return _rows.decode_lines(await self._ask("rows", _range(partition, stretch)))

    async def ids(self, partition: int, stretch: Stretch, since: int) -> list[KnownId]:
        """Ids counted in a range that the log holds no more, received at `since` (epoch ms) or later."""
        return _ids.decode_lines(await self._ask("ids", {**_range(partition, stretch), "since": since}))

    async def figures(self, partition: int, stretch: Stretch) -> dict[str, Figures]:
        """Each campaign's figures in a range."""
        return _figures(_totals.decode_lines(await self._ask("of_range", _range(partition, stretch))))

    async def totals(self) -> dict[str, Figures]:
        """Each campaign's figures, from the rows themselves."""
        return _figures(_totals.decode_lines(await self._ask("totals", {})))

    async def projected(self, projection: str) -> dict[str, Figures]:
        """Each campaign's figures as a projection holds them: it knows bots, no other reason."""
        return _figures(_totals.decode_lines(await self._ask(projection, {})))

    async def _ask(self, name: str, parameters: Mapping[str, int]) -> bytes:
        answer = await self._client.raw_query(
            clickhouse_query(f"reconcile/{name}"), dict(parameters), settings=_JSON, fmt="JSONEachRow"
        )
        return bytes(answer)


def _range(partition: int, stretch: Stretch) -> dict[str, int]:
    return {"partition": partition, **msgspec.structs.asdict(stretch)}


def _figures(totals: Iterable[_Total]) -> dict[str, Figures]:
    campaigns: dict[str, Figures] = {}
    for total in totals:
        figures = campaigns.setdefault(
            total.campaign_id, Figures(billed=0, overdelivery=0, revenue=0, cost=0)
        )
        reason = Unbilled.BOT if total.bot else total.reason
        figures.count(total.type, reason, total.events)
        figures.billed = (figures.billed or 0) + total.billed
        figures.overdelivery = (figures.overdelivery or 0) + total.overdelivery
        figures.cost = figures.billed + figures.overdelivery
        if reason != Unbilled.BOT:
            figures.revenue = (figures.revenue or 0) + total.revenue
    return campaigns
