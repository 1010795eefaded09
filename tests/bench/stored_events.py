"""Events that are stored in ClickHouse as if an aggregator had, and were in no log."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from clickhouse_connect.driver.asyncclient import AsyncClient

DAYS = 30
"""They are spread over so many, as a rule."""
EVENTS_A_RECORD = 100
_INSERTED_AT_ONCE = 1_000_000
_QUIET_LOOKS = 3
_CAMPAIGNS = "CREATE TABLE bench_campaigns (id UUID) ENGINE = Memory"
# Some thirty million rows. Without it all hundred million become one part at the end, in a merge of
# seven minutes: months that are over look so, and not the one that is asked about.
_BOUND_PARTS = "ALTER TABLE events MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1073741824"
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
        true, 2500, 2500, 0, {first_partition:UInt16} + n % 4, intDiv(n, 400), intDiv(n % 400, 4),
        intDiv(n, 20000), 1, 1
    FROM numbers({rows:UInt64})
"""


async def prepare(client: AsyncClient, campaigns: Sequence[str]) -> None:
    """Names the campaigns that `fill` spreads events over, and keeps the table's parts within a GiB."""
    await client.command(_BOUND_PARTS)
    await client.command(_CAMPAIGNS)
    await client.insert("bench_campaigns", [[campaign] for campaign in campaigns], ["id"])


async def fill(
    client: AsyncClient,
    organization: str,
    since: datetime,
    there: int,
    size: int,
    *,
    days: int = DAYS,
    first_partition: int = 0,
) -> None:
    """Stores events of so many days since then, so that there are `size` where `there` are already.

    They stand in four partitions from the first on. An aggregator at work must have none of these: it would
    find blocks that it has not stored, and mend them.
    """
    for first in range(there, size, _INSERTED_AT_ONCE):
        await client.command(
            _FILL,
            {
                "organization": organization,
                "from": first,
                "rows": min(_INSERTED_AT_ONCE, size - first),
                "since": since,
                "window": days * 86_400_000,
                "first_partition": first_partition,
            },
        )


async def until_merged(client: AsyncClient) -> None:
    """Waits until ClickHouse has put together what it wants to: what was stored at once here comes
    in months elsewhere."""
    quiet = 0
    while quiet < _QUIET_LOOKS:
        await asyncio.sleep(1)
        (merges,) = (await client.query("SELECT count() FROM system.merges")).result_rows[0]
        quiet = 0 if merges else quiet + 1
