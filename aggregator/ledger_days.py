"""The ledger's tables have a part for each day: tomorrow's is made, old ones go once they are verified."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial

import asyncpg
import structlog

from aggregator import metrics
from aggregator.ledger import Ledger
from aggregator.postgres import RETRYABLE
from aggregator.retry import tries

log = structlog.get_logger(__name__)

_EVERY = timedelta(hours=1)
_DAY_SECONDS = 24 * 3600


async def maintain_days(ledger: Ledger, keep_seconds: float) -> None:
    """Makes tomorrow's parts, and drops those older than `keep_seconds`, every hour, until cancelled."""
    while True:
        today = datetime.now(UTC).date()
        for day in (today, today + timedelta(days=1)):
            await _persist("created", day, partial(ledger.create_day, day))
        await drop_old_days(ledger, today, keep_seconds)
        await asyncio.sleep(_EVERY.total_seconds())


async def drop_old_days(ledger: Ledger, today: date, keep_seconds: float) -> list[date]:
    """Drops the days that are old enough, by this day and by Postgres' own, and verified as a whole; returns
    them."""
    days: list[date] = []
    dropped: list[date] = []
    keep_days = math.ceil(keep_seconds / _DAY_SECONDS)
    await _persist("listed", today, partial(_list, days, ledger, today, keep_days))
    for day in days:
        await _persist("dropped", day, partial(_drop, dropped, ledger, day))
    return dropped


async def _list(days: list[date], ledger: Ledger, today: date, keep_days: int) -> None:
    days[:] = await ledger.old_days(today, keep_days)


async def _drop(dropped: list[date], ledger: Ledger, day: date) -> None:
    if await ledger.drop_day(day):
        metrics.ledger_days_dropped.inc()
        log.info("ledger.day_dropped", day=str(day))
        dropped.append(day)
    else:
        log.warning("ledger.day_kept", day=str(day), reason="not all of it is verified as stored")


async def _persist(what: str, day: date, work: Callable[[], Awaitable[None]]) -> None:
    """Tries until Postgres has answered. A day that can't be made is found in the default parts as well."""
    async for _ in tries():
        try:
            await work()
        except RETRYABLE as error:
            log.warning("ledger.day_waits", day=str(day), step=what, error=str(error))
        except asyncpg.PostgresError as error:
            # Such as rows of the day that are in the default partition already: they are found there as well.
            log.error("ledger.day_refused", day=str(day), step=what, error=str(error))  # noqa: TRY400  Postgres said it all
            return
        else:
            return
