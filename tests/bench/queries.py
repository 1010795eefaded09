"""Row 7: what is asked of one campaign, with more and more events stored: of ClickHouse, query by query, and
over HTTP, as dashboards do."""

import random
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from typing import Any

import asyncpg
import clickhouse_connect
from clickhouse_connect.driver.asyncclient import AsyncClient

from schemas.ids import new_id
from sql.load import clickhouse_query
from tests.bench.control_world import COPIES
from tests.bench.engines import Engines, engines
from tests.bench.figures import Figure, Goal, Report, p99_of, share
from tests.bench.form import Form
from tests.bench.stored_events import DAYS, fill, prepare, until_merged
from tests.integration.control import ControlApi, running_control_api

_QUESTIONS = ("campaign_totals", "series_by_hour", "series_by_day", "totals_by_channel", "totals_by_variant")
_WARM_UPS, _TIMES = 20, 200
_P99_MS = Goal(50, at_most=True)
_ZONE = "Europe/Berlin"

Question = Callable[[str], Awaitable[None]]
"""Asks about a campaign. RuntimeError when the answer is a refusal."""


async def rows(report: Report, form: Form) -> None:
    """Questions about random campaigns, at each size, in turn."""
    medians: dict[str, list[float]] = {}
    async with (
        engines(0) as world,
        running_control_api(
            world.kafka, world.postgres, world.folder, FLIGHTLINE_CLICKHOUSE=world.clickhouse
        ) as api,
    ):
        client = await clickhouse_connect.get_async_client(dsn=world.clickhouse, send_receive_timeout=600)
        until = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        since = until - timedelta(days=DAYS)
        campaigns = await _make(api, world, form.campaigns)
        await prepare(client, campaigns)
        questions = {**_of_clickhouse(client, since, until), **_of_api(api, since, until)}
        there = 0
        for size in form.stored_events:
            await fill(client, api.made.organization_id, since, there, size)
            await until_merged(client)
            there = size
            for name, runs in (await _time(questions, campaigns, form.runs)).items():
                medians.setdefault(name, []).append(share(sorted(chain.from_iterable(runs)), 0.5))
                what = f"{name}, one campaign among {form.campaigns:,}, {size / 1e6:.0f} M events"
                report.add(p99_of("7", what, runs, _P99_MS))
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


async def _make(api: ControlApi, world: Engines, campaigns: int) -> list[str]:
    """Running campaigns of the API's organization."""
    template = await api.active()
    ids = [new_id() for _ in range(campaigns)]
    connection = await asyncpg.connect(world.postgres)
    await connection.execute(COPIES, template["id"], api.made.organization_id, ids)
    await connection.execute("VACUUM ANALYZE control.campaigns, ledger.accounts")
    await connection.close()
    return ids


def _of_clickhouse(client: AsyncClient, since: datetime, until: datetime) -> dict[str, Question]:
    async def ask(name: str, campaign: str) -> None:
        await client.query(clickhouse_query(name), {"campaign": campaign, **_period(name, since, until)})

    return {name.replace("_", " "): partial(ask, name) for name in _QUESTIONS}


def _of_api(api: ControlApi, since: datetime, until: datetime) -> dict[str, Question]:
    report = f"performance?from={since:%Y-%m-%d}&to={until:%Y-%m-%d}&tz={_ZONE}"

    async def ask(what: str, campaign: str) -> None:
        answer = await api.call("GET", f"/campaigns/{campaign}/{what}")
        if answer.status != 200:
            raise RuntimeError(f"unexpected answer: {answer}")

    return {
        "GET …/metrics": partial(ask, "metrics"),
        "GET …/performance by day": partial(ask, report),
        "GET …/performance by day and channel, beside the period before": partial(
            ask, f"{report}&groupBy=channel&compare=previous"
        ),
    }


def _period(name: str, since: datetime, until: datetime) -> dict[str, Any]:
    """All that is stored, as the question takes its bounds."""
    if name == "campaign_totals":
        return {}
    if name.startswith("series"):
        return {"from": since, "to": until, "tz": _ZONE}
    return {"from": since.date(), "to": until.date()}


async def _time(
    questions: Mapping[str, Question], campaigns: list[str], runs: int
) -> dict[str, list[list[float]]]:
    """Seconds by question and run; each question in its turn, so that what disturbs one disturbs all."""
    dice = random.Random(1)  # noqa: S311  choices, not secrets
    taken: dict[str, list[list[float]]] = {name: [] for name in questions}
    for number in range(_WARM_UPS + runs * _TIMES):
        for name, ask in questions.items():
            started = time.perf_counter()
            await ask(dice.choice(campaigns))
            if number >= _WARM_UPS:
                if (number - _WARM_UPS) % _TIMES == 0:
                    taken[name].append([])
                taken[name][-1].append(time.perf_counter() - started)
    return taken
