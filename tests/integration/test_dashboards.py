"""Every dashboard query against rows counted in Python; those meant to read a projection can be forced to."""

import random
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID
from zoneinfo import ZoneInfo

import clickhouse_connect
import pytest
import pytest_asyncio
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import DatabaseError

from aggregator.domain.blocks import Block, position, position_hash
from aggregator.domain.rows import EventRow, lines_of
from aggregator.event_store import EventStore
from compose.secrets import load_or_make
from sql.load import ROOT, clickhouse_query
from tests.integration.rows import NOW, charged, row
from tests.running import RunningStack

CAMPAIGNS = [f"018f0000-0000-7000-8000-0000000000c{n}" for n in range(4)]
ORGANIZATIONS = [f"018f0000-0000-7000-8000-00000000000{n}" for n in range(2)]
CURRENCIES = ["EUR", "JPY", "EUR", "EUR"]
NOBODY = "018f0000-0000-7000-8000-0000000000ff"
TO = datetime.fromtimestamp(NOW / 1000, UTC).replace(hour=12, minute=0, second=0, microsecond=0)
FROM = TO - timedelta(days=3)
DAYS = {"from": FROM.date(), "to": TO.date()}
TIMES = {"from": FROM, "to": TO}
ZONES = ["UTC", "Asia/Kathmandu", "America/St_Johns", "Europe/Berlin"]
COUNTED = ("IMPRESSION", "CLICK", "CONVERSION")

Row = dict[str, Any]


def random_rows(count: int) -> list[EventRow]:
    chosen = random.Random(5)  # noqa: S311 - no secret
    rows = []
    for n in range(count):
        campaign = chosen.choices(range(4), (6, 3, 2, 1))[0]
        bot = chosen.random() < 0.1
        paused = not bot and chosen.random() < 0.1
        billed, over = (0, 0) if bot or paused else (chosen.randrange(9_000), chosen.choice((0, 0, 7)))
        rows.append(
            row(
                1,
                n // 500,
                n % 500,
                organization_id=ORGANIZATIONS[campaign // 3],
                campaign_id=CAMPAIGNS[campaign],
                currency=CURRENCIES[campaign],
                type=chosen.choices((*COUNTED, "BOUNCE", "UNSUBSCRIBE"), (60, 20, 6, 2, 1))[0],
                occurred_at=NOW - chosen.randrange(6 * 24 * 3600 * 1000),
                received_at=NOW - chosen.randrange(1000),
                channel=chosen.choice(("WEB", "EMAIL", "")),
                variant=chosen.choice(("a", "b")),
                country=chosen.choice(("DE", "FR", "")),
                visitor_id=chosen.choice(("", *(f"v-{v}" for v in range(200)))),
                bot=bot,
                billable=not (bot or paused),
                reason="BOT" if bot else "PAUSED" if paused else "",
                cost=billed + over,
                billed=billed,
                overdelivery=over,
                revenue=chosen.choice((0, 0, 123_456)),
            )
        )
    return rows


ROWS = random_rows(6_000)
PEOPLE = [each for each in ROWS if not each.bot]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(clickhouse_url: str) -> AsyncIterator[AsyncClient]:
    client = await clickhouse_connect.get_async_client(dsn=clickhouse_url, autogenerate_session_id=False)
    store = EventStore(client)
    for number in range(3):  # several parts, so that parts are combined
        rows = ROWS[number::3]
        hashed = position_hash(position(each.log_offset, each.event_index) for each in rows)
        block = Block(1, 0, number, 0, 12, len(rows), sum(each.billed for each in rows), hashed, 1, 1)
        await store.insert(block, lines_of(1, [charged(each) for each in rows]))
        assert (await store.verify(block)).exact
    yield client
    await client.close()


async def ask(client: AsyncClient, name: str, projection: str = "", **parameters: Any) -> list[Row]:
    """The rows of a query; with a projection named, from that one or not at all."""
    # Preferred, for ClickHouse rightly reads rows where they are as few as the projection's.
    forced = {
        "force_optimize_projection_name": projection,
        "preferred_optimize_projection_name": projection,
    }
    result = await client.query(clickhouse_query(name), parameters, settings=forced if projection else None)
    return [dict(zip(result.column_names, each, strict=True)) for each in result.result_rows]


def occurred(event: EventRow, zone: str = "UTC") -> datetime:
    return datetime.fromtimestamp(event.occurred_at / 1000, ZoneInfo(zone))


def in_full(events: Iterable[EventRow]) -> Row:
    """What periods and series tell: these have all events of a report, and how new it is (epoch ms)."""
    events = list(events)
    types = Counter(each.type for each in events)
    return counted(events) | {
        "bounces": types["BOUNCE"],
        "unsubscribes": types["UNSUBSCRIBE"],
        "last_updated": max((each.received_at for each in events), default=0),
    }


def told(rows: Iterable[Row]) -> list[Row]:
    """The same of a query's rows."""
    return [row | {"last_updated": round(row["last_updated"].timestamp() * 1000)} for row in rows]


def on_days(events: Iterable[EventRow]) -> list[EventRow]:
    return [each for each in events if DAYS["from"] <= occurred(each).date() < DAYS["to"]]


def of(campaign: str, events: Iterable[EventRow]) -> list[EventRow]:
    return [each for each in events if each.campaign_id == campaign]


def counted(events: Iterable[EventRow]) -> Row:
    """What most queries tell of some events."""
    events = list(events)
    types = Counter(each.type for each in events)
    return {
        "impressions": types["IMPRESSION"],
        "clicks": types["CLICK"],
        "conversions": types["CONVERSION"],
        "cost": sum(each.billed for each in events),
        "overdelivery_cost": sum(each.overdelivery for each in events),
        "revenue": sum(each.revenue for each in events),
    }


def grouped(events: Iterable[EventRow], key: Callable[[EventRow], Hashable]) -> dict[Any, list[EventRow]]:
    groups: dict[Hashable, list[EventRow]] = defaultdict(list)
    for each in events:
        groups[key(each)].append(each)
    return groups


def by(rows: Sequence[Row], name: str) -> dict[Any, Row]:
    """The rows by one of their columns, which leaves them."""
    result = {each.pop(name): each for each in rows}
    assert len(result) == len(rows)
    return result


@pytest.mark.parametrize("campaign", CAMPAIGNS)
async def test_campaign_totals(client: AsyncClient, campaign: str) -> None:
    (totals,) = await ask(client, "campaign_totals", "by_day", campaign=campaign)
    events = of(campaign, PEOPLE)
    types = Counter(each.type for each in events)
    assert totals.pop("last_updated").timestamp() == max(each.received_at for each in events) / 1000
    assert totals.pop("bounces") == types["BOUNCE"]
    assert totals.pop("unsubscribes") == types["UNSUBSCRIBE"]
    assert totals == counted(events)


async def test_totals_of_a_campaign_without_events_are_zero(client: AsyncClient) -> None:
    (totals,) = await ask(client, "campaign_totals", campaign=NOBODY)
    assert set(totals.values()) - {totals["last_updated"]} == {0}


async def test_series_by_quarter_hour(client: AsyncClient) -> None:
    parameters = {"campaign": CAMPAIGNS[0], **TIMES}
    rows = await ask(client, "series_by_quarter_hour", "by_quarter_hour", **parameters)
    assert [each["at"] for each in rows] == sorted(each["at"] for each in rows)
    events = [each for each in of(CAMPAIGNS[0], PEOPLE) if FROM <= occurred(each) < TO]
    groups = grouped(events, lambda each: each.occurred_at // 900_000 * 900)
    assert {_seconds(at): each for at, each in by(told(rows), "at").items()} == {
        at: in_full(group) for at, group in groups.items()
    }


@pytest.mark.parametrize("zone", ZONES)
async def test_series_by_hour_of_a_time_zone(client: AsyncClient, zone: str) -> None:
    parameters = {"campaign": CAMPAIGNS[0], "tz": zone, **TIMES}
    rows = await ask(client, "series_by_hour", "by_quarter_hour", **parameters)
    events = [each for each in of(CAMPAIGNS[0], PEOPLE) if FROM <= occurred(each) < TO]
    groups = grouped(
        events, lambda each: occurred(each, zone).replace(minute=0, second=0, microsecond=0).timestamp()
    )
    assert {_seconds(at): each for at, each in by(told(rows), "at").items()} == {
        at: in_full(group) for at, group in groups.items()
    }


@pytest.mark.parametrize("zone", ZONES)
async def test_series_by_day_of_a_time_zone(client: AsyncClient, zone: str) -> None:
    parameters = {"campaign": CAMPAIGNS[0], "tz": zone, **TIMES}
    rows = await ask(client, "series_by_day", "by_quarter_hour", **parameters)
    events = [each for each in of(CAMPAIGNS[0], PEOPLE) if FROM <= occurred(each) < TO]
    groups = grouped(events, lambda each: occurred(each, zone).date())
    assert by(told(rows), "day") == {day: in_full(group) for day, group in groups.items()}


async def test_series_by_minute(client: AsyncClient) -> None:
    rows = await ask(client, "series_by_minute", campaign=CAMPAIGNS[0], **TIMES)
    events = [each for each in of(CAMPAIGNS[0], PEOPLE) if FROM <= occurred(each) < TO]
    groups = grouped(events, lambda each: each.occurred_at // 60_000 * 60)
    assert {_seconds(at): each for at, each in by(told(rows), "at").items()} == {
        at: in_full(group) for at, group in groups.items()
    }


@pytest.mark.parametrize("campaign", [*CAMPAIGNS, NOBODY])
async def test_totals_of_a_period(client: AsyncClient, campaign: str) -> None:
    projection = "" if campaign == NOBODY else "by_quarter_hour"
    rows = await ask(client, "period_totals", projection, campaign=campaign, **TIMES)
    events = [each for each in of(campaign, PEOPLE) if FROM <= occurred(each) < TO]
    assert told(rows) == [in_full(events)]


@pytest.mark.parametrize(
    "dimensions", [["channel"], ["variant", "country"], ["channel", "variant", "country"]], ids="+".join
)
async def test_groups_of_a_period(client: AsyncClient, dimensions: list[str]) -> None:
    asked = {f"by_{name}": int(name in dimensions) for name in ("channel", "variant", "country")}
    parameters = {"campaign": CAMPAIGNS[0], **TIMES, **asked}
    rows = await ask(client, "period_groups", "by_quarter_hour", limit=100, **parameters)
    assert rows[:2] == await ask(client, "period_groups", limit=2, **parameters)
    events = [each for each in of(CAMPAIGNS[0], PEOPLE) if FROM <= occurred(each) < TO]
    groups = grouped(events, lambda each: tuple(getattr(each, name) for name in dimensions))
    assert [each["impressions"] for each in rows] == sorted(
        (each["impressions"] for each in rows), reverse=True
    )
    unasked = {name for name in ("channel", "variant", "country") if name not in dimensions}
    assert all(each.pop(name) == "" for each in rows for name in unasked)
    assert {tuple(each.pop(name) for name in dimensions): each for each in rows} == {
        key: counted(group) for key, group in groups.items()
    }


@pytest.mark.parametrize("zone", ZONES)
async def test_reach_by_day_of_a_time_zone(client: AsyncClient, zone: str) -> None:
    parameters = {"campaign": CAMPAIGNS[0], "tz": zone, **TIMES}
    rows = await ask(client, "reach_by_local_day", "by_quarter_hour", **parameters)
    events = [each for each in of(CAMPAIGNS[0], PEOPLE) if FROM <= occurred(each) < TO]
    groups = grouped(events, lambda each: occurred(each, zone).date())
    assert {each["day"]: each["visitors"] for each in rows} == {
        day: len({each.visitor_id for each in group if each.visitor_id}) for day, group in groups.items()
    }


@pytest.mark.parametrize("dimension", ["channel", "variant", "country"])
async def test_totals_by_dimension(client: AsyncClient, dimension: str) -> None:
    rows = await ask(client, f"totals_by_{dimension}", "by_day", campaign=CAMPAIGNS[0], **DAYS)
    groups = grouped(on_days(of(CAMPAIGNS[0], PEOPLE)), lambda each: str(getattr(each, dimension)))
    assert [each["impressions"] for each in rows] == sorted(
        (each["impressions"] for each in rows), reverse=True
    )
    assert by(rows, dimension) == {value: counted(group) for value, group in groups.items()}


async def test_top_campaigns_of_a_day(client: AsyncClient) -> None:
    day = FROM.date()
    parameters = {"organization": ORGANIZATIONS[0], "day": day}
    rows = await ask(client, "top_campaigns", "by_day", limit=10, **parameters)
    events = [
        each for each in PEOPLE if each.organization_id == ORGANIZATIONS[0] and occurred(each).date() == day
    ]
    groups = grouped(events, lambda each: (UUID(each.campaign_id), each.currency))
    expected = [
        {"campaign_id": campaign, "currency": currency, **counted(group)}
        for (campaign, currency), group in groups.items()
    ]
    assert rows == sorted(expected, key=lambda each: (-each["impressions"], each["campaign_id"]))
    assert await ask(client, "top_campaigns", limit=1, **parameters) == rows[:1]


def percent(part: int, whole: int) -> float | None:
    """Half up to one decimal, in integers."""
    return (2000 * part + whole) // (2 * whole) / 10 if whole else None


@pytest.mark.parametrize("campaign", [*CAMPAIGNS, NOBODY])
async def test_funnel(client: AsyncClient, campaign: str) -> None:
    (funnel,) = await ask(client, "funnel", campaign=campaign, **DAYS)
    types = Counter(each.type for each in on_days(of(campaign, PEOPLE)))
    assert funnel == {
        "impressions": types["IMPRESSION"],
        "clicks": types["CLICK"],
        "conversions": types["CONVERSION"],
        "ctr": percent(types["CLICK"], types["IMPRESSION"]),
        "conversion_rate": percent(types["CONVERSION"], types["CLICK"]),
    }


async def test_reach_counts_visitors_once(client: AsyncClient) -> None:
    (reach,) = await ask(client, "reach", "by_day", campaign=CAMPAIGNS[0], **DAYS)
    events = [each for each in on_days(of(CAMPAIGNS[0], PEOPLE)) if each.visitor_id]
    assert reach == {"visitors": len({each.visitor_id for each in events})}

    rows = await ask(client, "reach_by_day", "by_day", campaign=CAMPAIGNS[0], **DAYS)
    days = grouped(events, lambda each: occurred(each).date())
    assert {each["day"]: each["visitors"] for each in rows} == {
        day: len({each.visitor_id for each in group}) for day, group in days.items()
    }


async def test_unbilled_by_reason(client: AsyncClient) -> None:
    rows = await ask(client, "unbilled", campaign=CAMPAIGNS[0], **TIMES)
    reasons = Counter(
        each.reason for each in of(CAMPAIGNS[0], ROWS) if each.reason and FROM <= occurred(each) < TO
    )
    assert [(each["reason"], each["events"]) for each in rows] == reasons.most_common()


async def test_invalid_traffic(client: AsyncClient) -> None:
    rows = await ask(client, "invalid_traffic", "by_day", campaign=CAMPAIGNS[0], **DAYS)
    groups = grouped(on_days(of(CAMPAIGNS[0], ROWS)), lambda each: occurred(each).date())
    expected = {}
    for day, group in groups.items():
        bots = Counter(each.type for each in group if each.bot)
        expected[day] = {
            "invalid_impressions": bots["IMPRESSION"],
            "invalid_clicks": bots["CLICK"],
            "invalid_conversions": bots["CONVERSION"],
            "invalid_events": bots.total(),
            "events": len(group),
        }
    assert by(rows, "day") == expected


async def test_freshness(client: AsyncClient) -> None:
    (freshness,) = await ask(client, "freshness")
    newest = max(each.received_at for each in ROWS)
    assert freshness["newest"].timestamp() == newest / 1000
    age = datetime.now(UTC).timestamp() * 1000 - newest
    assert 0 <= age - freshness["age_ms"] < 60_000


async def test_spend_of_an_organization(client: AsyncClient) -> None:
    rows = await ask(client, "organization_spend", "by_day", organization=ORGANIZATIONS[0], **DAYS)
    events = [each for each in on_days(PEOPLE) if each.organization_id == ORGANIZATIONS[0]]
    groups = grouped(events, lambda each: (occurred(each).date(), each.currency))
    assert {each["currency"] for each in rows} == {"EUR", "JPY"}
    assert rows == [
        {
            "day": day,
            "currency": currency,
            "events": len(group),
            "cost": sum(each.billed for each in group),
            "overdelivery_cost": sum(each.overdelivery for each in group),
        }
        for (day, currency), group in sorted(groups.items())
    ]


@pytest.mark.parametrize("projection", ["by_day", "by_quarter_hour"])
async def test_projections_hold_what_the_rows_hold(client: AsyncClient, projection: str) -> None:
    rows = await ask(client, f"reconcile/{projection}")
    found = {(str(each.pop("campaign_id")), each.pop("type"), each.pop("bot")): each for each in rows}
    assert found == summed(lambda each: (each.campaign_id, each.type, each.bot))


async def test_totals_by_reason_for_reconcile(client: AsyncClient) -> None:
    rows = await ask(client, "reconcile/totals")
    found = {(str(each.pop("campaign_id")), each.pop("type"), each.pop("reason")): each for each in rows}
    assert found == summed(lambda each: (each.campaign_id, each.type, each.reason))


def summed(key: Callable[[EventRow], Hashable]) -> dict[Any, Row]:
    """All rows, bots too, as reconcile counts them."""
    return {
        name: {
            "events": len(group),
            "billed": sum(each.billed for each in group),
            "overdelivery": sum(each.overdelivery for each in group),
            "revenue": sum(each.revenue for each in group),
        }
        for name, group in grouped(ROWS, key).items()
    }


async def test_the_freshness_of_an_empty_table_is_1970(engines: RunningStack) -> None:
    client = await clickhouse_connect.get_async_client(dsn=await engines.fresh_clickhouse())
    (freshness,) = await ask(client, "freshness")
    assert freshness["newest"].timestamp() == 0
    await client.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def reader(engines: RunningStack, clickhouse_url: str) -> AsyncIterator[AsyncClient]:
    """The read-only user of dashboards, in the same database."""
    address = urlsplit(clickhouse_url)
    password = load_or_make(engines.state / "secrets.json").dashboards_password
    dsn = address._replace(netloc=f"dashboards:{password}@{address.hostname}:{address.port}").geturl()
    reader = await clickhouse_connect.get_async_client(dsn=dsn, autogenerate_session_id=False)
    yield reader
    await reader.close()


async def test_the_dashboards_user_reads(client: AsyncClient, reader: AsyncClient) -> None:
    parameters = {"campaign": CAMPAIGNS[0], **DAYS}
    assert await ask(reader, "funnel", **parameters) == await ask(client, "funnel", **parameters)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO fence (partition, epoch, owner) VALUES (1, 99, 'x')",
        "INSERT INTO fence (partition, epoch, owner) SELECT 1, 99, 'x'",
        "ALTER TABLE events DELETE WHERE 1 SETTINGS mutations_sync = 2",
        "TRUNCATE TABLE events",
        "DROP TABLE events",
        "CREATE TABLE mine (a UInt8) ENGINE = Memory",
        "SET readonly = 0",
        "SYSTEM STOP MERGES",
        "KILL QUERY WHERE 1",
        "SELECT * FROM url('http://127.0.0.1:9/', 'CSV', 'a String')",
    ],
)
async def test_the_dashboards_user_changes_nothing(
    client: AsyncClient, reader: AsyncClient, statement: str
) -> None:
    with pytest.raises(DatabaseError):
        await reader.command(statement)
    assert sum(each["events"] for each in await ask(client, "reconcile/totals")) == len(ROWS)


def _seconds(at: datetime | date) -> float:
    assert isinstance(at, datetime)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


async def test_the_statements_for_a_server_are_well_formed(client: AsyncClient) -> None:
    text = (ROOT / "clickhouse" / "dashboards_user.sql").read_text()
    statements = [each for each in re.sub(r"--.*", "", text).split(";") if each.strip()]
    for statement in statements:
        await client.query("SELECT formatQuery({statement:String})", {"statement": statement})
    assert len(statements) == 2


def test_every_query_is_in_the_readme_and_says_its_parameters() -> None:
    readme = (ROOT / "clickhouse" / "README.md").read_text()
    for file in (ROOT / "clickhouse" / "queries").glob("*.sql"):
        assert f"`{file.stem}`" in readme
        text = file.read_text()
        for parameter in re.findall(r"\{(\w+):", text):
            described = re.search(r"-- Parameters: (.*)", text)
            assert described, file.name
            assert parameter in described[1], file.name
