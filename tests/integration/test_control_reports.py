"""Performance and audience over HTTP, against rows of the real ClickHouse counted in Python."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import clickhouse_connect
import pytest
import pytest_asyncio

from aggregator.domain.blocks import Block, position, position_hash
from aggregator.domain.rows import EventRow, lines_of
from aggregator.event_store import EventStore
from tests.integration.control import DAY, ControlApi, body, running_control_api
from tests.integration.rows import NOW, charged, row
from tests.running import free_port

HOUR_MS = 3_600_000
TO = datetime.fromtimestamp(NOW // 900_000 * 900, UTC)
FROM = TO - timedelta(days=4)
ZONE = "America/St_Johns"


class World:
    """A control API, one of its campaigns, and the rows of that."""

    def __init__(self, api: ControlApi, campaign: dict[str, Any], rows: list[EventRow]) -> None:
        self.api = api
        self.campaign = campaign
        self.people = [each for each in rows if not each.bot]

    async def report(self, status: int = 200, **parameters: str) -> dict[str, Any]:
        return await self.get("performance", status, **parameters)

    async def get(self, part: str, status: int = 200, **parameters: str) -> dict[str, Any]:
        answer = await self.api.call("GET", f"/campaigns/{self.campaign['id']}/{part}", params=parameters)
        assert answer.status == status, answer
        return dict(answer.body)

    def between(self, start: datetime, end: datetime) -> list[EventRow]:
        return [each for each in self.people if start <= at(each) < end]


def at(event: EventRow, zone: str = "UTC") -> datetime:
    return datetime.fromtimestamp(event.occurred_at / 1000, ZoneInfo(zone))


def random_rows(campaign: dict[str, Any], organization: str, count: int) -> list[EventRow]:
    chosen = random.Random(7)  # noqa: S311 - no secret
    rows = []
    for n in range(count):
        bot = chosen.random() < 0.1
        rows.append(
            row(
                1,
                n // 500,
                n % 500,
                organization_id=organization,
                campaign_id=campaign["id"],
                type=chosen.choices(("IMPRESSION", "CLICK", "CONVERSION", "BOUNCE"), (60, 20, 6, 2))[0],
                occurred_at=NOW - chosen.randrange(9 * 24 * HOUR_MS),
                received_at=NOW - chosen.randrange(1000),
                channel=chosen.choice(("WEB", "EMAIL", "")),
                variant=chosen.choice(("a", "b")),
                country=chosen.choice(("DE", "FR", "")),
                visitor_id=chosen.choice(("", *(f"v-{v}" for v in range(200)))),
                bot=bot,
                billable=not bot,
                reason="BOT" if bot else "",
                cost=0 if bot else 2_503,
                billed=0 if bot else 2_500,
                overdelivery=0 if bot else 3,
                revenue=chosen.choice((0, 0, 123_456)),
            )
        )
    return rows


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(
    kafka: str, postgres_dsn: str, clickhouse_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    folder = Path(tmp_path_factory.mktemp("control"))
    async with running_control_api(kafka, postgres_dsn, folder, FLIGHTLINE_CLICKHOUSE=clickhouse_url) as api:
        campaign = await api.active(endDate=(datetime.now(UTC) + 10 * DAY).isoformat())
        rows = random_rows(campaign, api.made.organization_id, 5_000)
        client = await clickhouse_connect.get_async_client(dsn=clickhouse_url)
        hashed = position_hash(position(each.log_offset, each.event_index) for each in rows)
        block = Block(1, 0, 0, 0, 12, len(rows), sum(each.billed for each in rows), hashed, 1, 1)
        await EventStore(client).insert(block, lines_of(1, [charged(each) for each in rows]))
        await client.close()
        yield World(api, campaign, rows)


def euros(micros: int) -> Decimal:
    return Decimal(micros).scaleb(-6)


def percent(part: int, whole: int) -> Decimal | None:
    return (Decimal(100 * part) / whole).quantize(Decimal("0.1"), ROUND_HALF_UP) if whole else None


def shown(value: Any) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def hold(figures: dict[str, Any], events: Iterable[EventRow]) -> None:
    """That these figures are what these events come to."""
    events = list(events)
    counts = {
        kind: sum(each.type == kind for each in events) for kind in ("IMPRESSION", "CLICK", "CONVERSION")
    }
    impressions, clicks, conversions = counts.values()
    cost, revenue = sum(each.billed for each in events), sum(each.revenue for each in events)
    assert (figures["impressions"], figures["clicks"], figures["conversions"]) == tuple(counts.values())
    assert shown(figures["cost"]["amount"]) == euros(cost)
    assert shown(figures["revenue"]["amount"]) == euros(revenue)
    assert shown(figures["overdeliveryCost"]["amount"]) == euros(sum(each.overdelivery for each in events))
    assert figures["cost"]["currency"] == "EUR"
    assert shown(figures["ctr"]) == percent(clicks, impressions)
    assert shown(figures["conversionRate"]) == percent(conversions, clicks)
    assert shown(figures["roi"]) == percent(revenue - cost, cost)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_the_totals_of_a_period_are_those_of_its_rows(world: World) -> None:
    report = await world.report(**{"from": FROM.isoformat(), "to": TO.isoformat()})
    events = world.between(FROM, TO)
    hold(report["totals"], events)
    assert report["totals"]["bounces"] == sum(each.type == "BOUNCE" for each in events)
    assert moment(report["totals"]["lastUpdated"]).timestamp() * 1000 == max(e.received_at for e in events)
    assert (moment(report["period"]["from"]), moment(report["period"]["to"])) == (FROM, TO)
    assert report["previous"] is None
    assert report["groups"] == []


def _minute(local: datetime) -> datetime:
    return local.replace(second=0, microsecond=0)


def _hour(local: datetime) -> datetime:
    return local.replace(minute=0, second=0, microsecond=0)


def _day(local: datetime) -> datetime:
    return local.replace(hour=0, minute=0, second=0, microsecond=0)


@pytest.mark.parametrize(
    ("interval", "length", "floor"),
    [
        ("minute", timedelta(hours=9), _minute),
        ("hour", timedelta(days=3), _hour),
        ("day", timedelta(days=8), _day),
    ],
)
async def test_a_series_has_every_point_of_the_period_and_nothing_twice(
    world: World, interval: str, length: timedelta, floor: Callable[[datetime], datetime]
) -> None:
    start = TO - length
    asked = {"from": start.isoformat(), "to": TO.isoformat(), "interval": interval, "tz": ZONE}
    series = (await world.report(**asked))["series"]
    assert moment(series[0]["from"]) == start
    assert moment(series[-1]["to"]) == TO
    for point, following in pairwise(series):
        assert point["to"] == following["from"]
        begins = moment(following["from"]).astimezone(ZoneInfo(ZONE))
        assert floor(begins) == begins
    for point in series:
        hold(point, world.between(moment(point["from"]), moment(point["to"])))
    assert sum(point["impressions"] for point in series) > 0
    zeros = [point for point in series if point["impressions"] + point["clicks"] == 0]
    assert zeros or interval != "minute"
    assert all(point["ctr"] is None for point in zeros if point["impressions"] == 0)


@pytest.mark.parametrize("dimensions", ["channel", "variant,country", "channel,variant,country"])
async def test_groups_are_the_combinations_of_what_is_asked_for(world: World, dimensions: str) -> None:
    asked = {"from": FROM.isoformat(), "to": TO.isoformat(), "groupBy": dimensions}
    groups = (await world.report(**asked))["groups"]
    names = dimensions.split(",")
    assert [list(group["key"]) for group in groups] == [names] * len(groups)
    seen = set()
    for group in groups:
        key = tuple(group["key"].values())
        seen.add(key)
        hold(
            group,
            [
                each
                for each in world.between(FROM, TO)
                if tuple(getattr(each, name) or None for name in names) == key
            ],
        )
    assert len(seen) == len(groups)
    assert sum(group["impressions"] for group in groups) == sum(
        each.type == "IMPRESSION" for each in world.between(FROM, TO)
    )


async def test_a_period_is_compared_with_the_one_before(world: World) -> None:
    report = await world.report(**{"from": FROM.isoformat(), "to": TO.isoformat(), "compare": "previous"})
    previous = report["previous"]
    assert moment(previous["period"]["to"]) == FROM
    earlier = world.between(moment(previous["period"]["from"]), FROM)
    assert moment(previous["period"]["from"]) == FROM - (TO - FROM)
    hold(previous["totals"], earlier)
    now, then = report["totals"]["clicks"], previous["totals"]["clicks"]
    assert shown(previous["changes"]["clicks"]) == percent(now - then, then)


async def test_days_are_those_of_the_time_zone_and_its_first_moment_is_asked_for_by_its_date(
    world: World,
) -> None:
    day = at(world.people[0], ZONE).date()
    asked = {"from": str(day), "to": str(day + DAY), "tz": ZONE, "compare": "previous"}
    report = await world.report(**asked)
    hold(report["totals"], [each for each in world.people if at(each, ZONE).date() == day])
    assert len(report["series"]) == 1
    yesterday = moment(report["previous"]["period"]["from"]).astimezone(ZoneInfo(ZONE))
    assert yesterday == datetime.combine(day - DAY, datetime.min.time(), ZoneInfo(ZONE))
    hold(report["previous"]["totals"], [e for e in world.people if at(e, ZONE).date() == day - DAY])


@pytest.mark.parametrize("days", [1, 2, 3])
async def test_what_was_before_is_the_same_however_the_period_is_cut(world: World, days: int) -> None:
    """By day it is asked for together with the series, by hour on its own."""
    last = max(at(each, ZONE).date() for each in world.people)
    asked = {"from": str(last - days * DAY), "to": str(last), "tz": ZONE, "compare": "previous"}
    by_day, by_hour = [await world.report(**asked, interval=interval) for interval in ("day", "hour")]
    assert by_day["previous"] == by_hour["previous"]
    assert by_day["totals"] == by_hour["totals"]
    assert by_day["previous"]["totals"]["impressions"]
    assert len(by_day["series"]) == days


async def test_without_parameters_it_is_the_last_month_in_the_organizations_days(world: World) -> None:
    report = await world.report()
    assert report["period"]["timeZone"] == "UTC"
    assert 30 <= len(report["series"]) <= 31
    hold(report["totals"], world.people)


async def test_pacing_compares_the_ledger_with_the_time_that_has_gone(world: World) -> None:
    campaign = await world.api.active(
        endDate=(datetime.now(UTC) + 2 * DAY).isoformat(), budget={"amount": 100.00, "currency": "EUR"}
    )
    path = f"/campaigns/{campaign['id']}/performance"
    idle = (await world.api.call("GET", path)).body["pacing"]
    assert idle["actual"] == {"amount": 0, "currency": "EUR"}
    assert idle["projectedEnd"] is None
    assert 0 <= idle["expected"]["amount"] < 1
    await world.api.spend(campaign["id"], 50_000_000)
    pacing = (await world.api.call("GET", path)).body["pacing"]
    assert pacing["actual"]["amount"] == 50
    assert moment(pacing["projectedEnd"]) < datetime.now(UTC) + timedelta(hours=1)
    endless = await world.api.active(endDate=None)
    assert (await world.api.call("GET", f"/campaigns/{endless['id']}/performance")).body["pacing"][
        "expected"
    ] is None


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-02-30"}, "from"),
        ({"from": "0001-01-01"}, "from"),
        ({"to": "9999-12-31T23:59:59Z"}, "to"),
        ({"from": "2026-11-02T00:00:00"}, "from"),
        ({"from": "2026-03-02", "to": "2026-03-01"}, "to"),
        ({"from": "2026-03-02", "to": "2026-03-02"}, "to"),
        ({"from": "2020-01-01", "to": "2026-01-01"}, "interval"),
        ({"from": "2026-01-01", "to": "2026-06-01", "interval": "hour"}, "interval"),
        ({"from": "2026-01-01", "to": "2026-01-02", "interval": "minute"}, "interval"),
        ({"interval": "week"}, "interval"),
        ({"tz": "Mars/Olympus"}, "tz"),
        ({"tz": "../etc/passwd"}, "tz"),
        ({"groupBy": "channel,placement"}, "groupBy"),
        ({"compare": "next"}, "compare"),
        ({"until": "now"}, "until"),
    ],
)
async def test_an_impossible_period_is_refused_by_its_name(
    world: World, parameters: dict[str, str], named: str
) -> None:
    problem = await world.report(400, **parameters)
    assert [error["pointer"] for error in problem["errors"]] == [named]


async def test_the_audience_is_whom_it_names_and_how_many_it_has_reached(world: World) -> None:
    found = await world.get("audience")
    settings = body()["settings"]
    assert found["targets"]["segments"] == settings["targetAudience"]
    assert found["targets"]["rules"] == body()["targetingRules"]
    assert found["targets"]["channels"] == settings["channels"]
    assert found["targets"]["frequencyCap"] is None
    assert found["evaluation"]["available"] is False
    visitors = {each.visitor_id for each in world.people if each.visitor_id}
    assert found["reached"]["visitors"] == len(visitors)
    days = {each["day"]: each["visitors"] for each in found["reached"]["byDay"]}
    for day, count in days.items():
        of_day = {e.visitor_id for e in world.people if e.visitor_id and str(at(e).date()) == day}
        assert count == len(of_day)
    assert len(days) == len({at(each).date() for each in world.people})


async def test_another_organization_finds_neither(world: World) -> None:
    other = await world.api.other_organization()
    for part in ("performance", "audience"):
        path = f"/campaigns/{world.campaign['id']}/{part}"
        assert (await world.api.call("GET", path, token=other)).status == 404


async def test_while_clickhouse_is_away_only_reports_are(kafka: str, postgres_dsn: str, folder: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}/none"
    async with running_control_api(kafka, postgres_dsn, folder, FLIGHTLINE_CLICKHOUSE=nobody) as api:
        campaign = await api.create()
        for part in ("performance", "audience"):
            answer = await api.call("GET", f"/campaigns/{campaign['id']}/{part}")
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "1"
            assert answer.body["type"] == "/problems/unavailable"
        assert (await api.call("GET", f"/campaigns/{campaign['id']}/metrics")).status == 200
        assert (await api.page("/ready")).status == 200


async def test_a_frozen_clickhouse_keeps_nobody_else_waiting_and_not_the_end(
    kafka: str, postgres_dsn: str, folder: Path
) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/none"
    async with running_control_api(kafka, postgres_dsn, folder, FLIGHTLINE_CLICKHOUSE=url) as api:
        campaign = await api.create()
        path = f"/campaigns/{campaign['id']}"
        waiting = [asyncio.create_task(api.call("GET", f"{path}/performance")) for _ in range(50)]
        first, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert {task.result().status for task in first} == {503}
        assert (await api.call("GET", f"{path}/metrics")).status == 200
        api.terminate()
        assert await asyncio.to_thread(api.wait, 10) == 0
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert {each.status for each in answers if isinstance(each, tuple)} <= {503}
    server.close()
