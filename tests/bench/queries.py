"""Row 7: what dashboards and reports ask ClickHouse of one campaign, with more and more events stored."""

import asyncio
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import clickhouse_connect
from clickhouse_connect.driver.asyncclient import AsyncClient

from sql.load import clickhouse_query
from tests.bench.engines import engines
from tests.bench.figures import Figure, Goal, Report, p99_of, share
from tests.bench.form import Form

_QUESTIONS = ("campaign_totals", "series_by_hour", "series_by_day", "totals_by_channel", "totals_by_variant")
_WARM_UPS, _TIMES = 20, 500
_QUIET_LOOKS = 3
_INSERTED_AT_ONCE = 1_000_000
_P99_MS = Goal(50, at_most=True)
_DAYS = 30
_CAMPAIGNS = "CREATE TABLE bench_campaigns (id UUID) ENGINE = Memory"
# A month of them, as an aggregator stores them. Numbers make the rows: a hundred million take minutes. They
# are spread evenly, the worst case for projections: a quarter-hour of a campaign has no more than a few.
_FILL = """
    INSERT INTO events (organization_id, campaign_id, event_id, type, occurred_at, received_at, channel,
        placement, variant, country, visitor_id, currency, budget_version, billable, cost, billed,
        incarnation, partition, log_offset, event_index, block, epoch, attempt)
    WITH (SELECT groupArray(id) FROM bench_campaigns) AS campaigns, {from:UInt64} + number AS n,
        {since:DateTime64(3, 'UTC')} + toIntervalMillisecond(intHash64(n) % {window:UInt64}) AS at
    SELECT {organization:UUID}, campaigns[1 + intHash64(n + 1) % length(campaigns)], toString(n),
        ['IMPRESSION', 'IMPRESSION', 'IMPRESSION', 'CLICK', 'CONVERSION'][1 + intHash64(n + 2) % 5], at, at,
        ['WEB', 'MOBILE_APP', 'EMAIL'][1 + intHash64(n + 3) % 3], '', ['a', 'b'][1 + intHash64(n + 4) % 2],
        ['DE', 'FR', 'US', 'JP'][1 + intHash64(n + 5) % 4], toString(intHash64(n + 6) % 1000000), 'EUR', 1,
        true, 2500, 2500, 0, n % 4, intDiv(n, 400), n % 100, intDiv(n, 20000), 1, 1
    FROM numbers({rows:UInt64})
"""


async def rows(report: Report, form: Form) -> None:
    """Questions about random campaigns, at each size, in turn."""
    medians: dict[str, list[float]] = {}
    async with engines(form.campaigns) as world:
        client = await clickhouse_connect.get_async_client(dsn=world.clickhouse, send_receive_timeout=600)
        until = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        since = until - timedelta(days=_DAYS)
        await name_campaigns(client, world.campaigns)
        there = 0
        for size in form.stored_events:
            await fill(client, world.organization, since, there, size)
            await _merged(client)
            there = size
            for name, taken in (await _time(client, world.campaigns, since, until)).items():
                medians.setdefault(name, []).append(share(taken, 0.5))
                report.add(
                    p99_of(
                        "7",
                        f"{name.replace('_', ' ')} of one campaign among {form.campaigns:,}, "
                        f"{size / 1e6:.0f} M events, p99 of {len(taken)}",
                        taken,
                        _P99_MS,
                    )
                )
        await client.close()
    if len(form.stored_events) > 1:
        first, last = form.stored_events[0] / 1e6, form.stored_events[-1] / 1e6
        report.add(
            Figure(
                "7",
                f"median at {last:.0f} M events beside that at {first:.0f} M",
                "times",
                [each[-1] / each[0] for each in medians.values()],
            )
        )


async def _merged(client: AsyncClient) -> None:
    """Waits until ClickHouse has merged what it wants to merge by itself."""
    quiet = 0
    while quiet < _QUIET_LOOKS:
        await asyncio.sleep(1)
        (merges,) = (await client.query("SELECT count() FROM system.merges")).result_rows[0]
        quiet = 0 if merges else quiet + 1


async def name_campaigns(client: AsyncClient, campaigns: Sequence[str]) -> None:
    """The campaigns that `fill` spreads events over."""
    await client.command(_CAMPAIGNS)
    await client.insert("bench_campaigns", [[campaign] for campaign in campaigns], ["id"])


async def fill(client: AsyncClient, organization: str, since: datetime, there: int, size: int) -> None:
    """Stores events of a month since then, so that there are `size` where `there` are already."""
    for first in range(there, size, _INSERTED_AT_ONCE):
        await client.command(
            _FILL,
            {
                "organization": organization,
                "from": first,
                "rows": min(_INSERTED_AT_ONCE, size - first),
                "since": since,
                "window": _DAYS * 86_400_000,
            },
        )


def _period(name: str, since: datetime, until: datetime) -> dict[str, Any]:
    """All that is stored, as the question takes its bounds."""
    if name == "campaign_totals":
        return {}
    if name.startswith("series"):
        return {"from": since, "to": until, "tz": "Europe/Berlin"}
    return {"from": since.date(), "to": until.date()}


async def _time(
    client: AsyncClient, campaigns: Sequence[str], since: datetime, until: datetime
) -> dict[str, list[float]]:
    """Seconds by question, in order; each question in its turn, so that what disturbs one disturbs all."""
    dice = random.Random(1)  # noqa: S311  choices, not secrets
    taken: dict[str, list[float]] = {name: [] for name in _QUESTIONS}
    for number in range(_WARM_UPS + _TIMES):
        for name, times in taken.items():
            parameters = {"campaign": dice.choice(campaigns), **_period(name, since, until)}
            started = time.perf_counter()
            await client.query(clickhouse_query(name), parameters)
            if number >= _WARM_UPS:
                times.append(time.perf_counter() - started)
    return {name: sorted(times) for name, times in taken.items()}
