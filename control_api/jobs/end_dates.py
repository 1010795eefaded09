"""Completes campaigns within a second of their endDate. Any number of replicas may run this."""

import asyncio

import structlog

from control_api import metrics
from control_api.errors import Unavailable
from control_api.handlers.automatic import complete_due
from control_api.handlers.ports import Clock, Store

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 0.25
_RETRY_SECONDS = 1.0


async def run(store: Store, clock: Clock) -> None:
    """Looks every quarter of a second until cancelled; more often while there is something to do."""
    while True:
        try:
            completed = await complete_due(store, clock())
        except Unavailable:
            await asyncio.sleep(_RETRY_SECONDS)
            continue
        if completed:
            metrics.COMPLETED_BY_DATE.inc(completed)
            log.info("end_dates.completed", campaigns=completed)
        else:
            await asyncio.sleep(_LOOK_SECONDS)
