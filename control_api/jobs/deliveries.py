"""Sends deliveries to webhooks. Any number of replicas may; none sends what another one has claimed.

Order is not promised: each delivery has its own attempts, and several are sent to a subscriber at a time.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Collection
from datetime import datetime, timedelta

import structlog

from control_api import metrics
from control_api.domain.deliveries import DeliveryState, Reply
from control_api.errors import Unavailable
from control_api.handlers.ports import Clock, Store, Unit
from control_api.handlers.sending import give_up_unsendable, record, signed_headers
from control_api.handlers.webhook_ports import Claimed, Secrets, Sending, Shares, Subscribers
from control_api.jobs.forgetting import forgetting

log = structlog.get_logger(__name__)

MOST = 32
"""Requests of this process at a time."""

SHARES = Shares(webhook=4, organization=MOST // 2)
"""One subscriber that takes its time leaves the rest to the others, and so do all of one organization."""

LEASE = timedelta(seconds=60)
"""Well above the time that a request may take. Afterwards whoever claimed it is taken for dead."""

KEPT = timedelta(days=30)
_LOOK_SECONDS = 0.5
_MEASURE_SECONDS = 5.0
_GIVE_UP_SECONDS = 5.0
_FORGOTTEN_AT_ONCE = 1_000
_chance = random.SystemRandom().random


class DeliveryWorker:
    """Claims what is due and sends it. A crash between the claim and its record sends it again when the lease
    ends, with the same webhook-id."""

    def __init__(self, store: Store, clock: Clock, secrets: Secrets, subscribers: Subscribers) -> None:
        self._store = store
        self._clock = clock
        self._secrets = secrets
        self._subscribers = subscribers
        self._sending: dict[asyncio.Task[None], Claimed] = {}
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Says that there is something to send."""
        self._wake.set()

    async def run(self) -> None:
        """Runs until cancelled; what is being sent then is left to its lease."""
        try:
            while True:
                self._wake.clear()
                if not await self._claim():
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), _LOOK_SECONDS)
        finally:
            for task in self._sending:
                task.cancel()

    async def _claim(self) -> bool:
        """Begins to send some; whether there were any."""
        free = MOST - len(self._sending)
        if free == 0:
            return False
        now, sending = self._clock(), _counted(self._sending.values())

        async def work(unit: Unit) -> list[Claimed]:
            return await unit.deliveries.claim(
                now=now, lease=now + LEASE, most=free, shares=SHARES, sending=sending
            )

        try:
            claimed = await self._store.in_transaction(work)
        except Unavailable:
            return False
        for delivery in claimed:
            task = asyncio.create_task(self._deliver(delivery))
            self._sending[task] = delivery
            task.add_done_callback(self._sent)
        return bool(claimed)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.pop(task, None)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("webhooks.delivery_failed", exc_info=error)

    async def _deliver(self, claimed: Claimed) -> None:
        headers = signed_headers(claimed, self._secrets, self._clock())
        if headers is None:
            reply = Reply(error="the secret cannot be opened any more: rotate it")
        else:
            reply = await self._subscribers.send(claimed.url, headers, claimed.payload)
        try:
            outcome = await record(self._store, claimed, reply, self._clock(), _chance)
        except Unavailable:
            log.warning("webhooks.outcome_not_recorded", delivery=claimed.id)
            return
        told = "gone" if outcome.gone else _OUTCOMES[outcome.state]
        metrics.WEBHOOK_ATTEMPTS.labels(told).inc()
        metrics.WEBHOOK_SECONDS.observe(reply.milliseconds / 1000)
        log.info(
            "webhooks.attempt",
            webhook=claimed.webhook_id,
            delivery=claimed.id,
            attempt=claimed.attempts,
            outcome=told,
            status=reply.status,
            error=reply.error,
        )


def _counted(sending: Collection[Claimed]) -> Sending:
    return Sending(
        Counter(one.webhook_id for one in sending), Counter(one.organization_id for one in sending)
    )


_OUTCOMES = {
    DeliveryState.DELIVERED: "delivered",
    DeliveryState.PENDING: "retried",
    DeliveryState.DEAD: "dead",
}


async def measure(store: Store, clock: Clock) -> None:
    """Sets the gauges of the backlog. Runs until cancelled."""

    async def work(unit: Unit) -> tuple[int, datetime | None]:
        return await unit.deliveries.backlog()

    while True:
        with contextlib.suppress(Unavailable):
            pending, oldest = await store.in_transaction(work)
            metrics.WEBHOOK_BACKLOG.set(pending)
            metrics.WEBHOOK_BACKLOG_SECONDS.set((clock() - oldest).total_seconds() if oldest else 0)
        await asyncio.sleep(_MEASURE_SECONDS)


async def forget(store: Store, clock: Clock) -> None:
    """Removes deliveries that are as old as the topic keeps their events. Runs until cancelled."""

    async def work(unit: Unit) -> bool:
        return await unit.deliveries.forget(clock() - KEPT, _FORGOTTEN_AT_ONCE) == _FORGOTTEN_AT_ONCE

    await forgetting("deliveries", lambda: store.in_transaction(work))


async def give_up(store: Store) -> None:
    """Gives up what nobody will be sent: its webhook is not active any more. Runs until cancelled."""

    async def all_of_it() -> bool:
        await give_up_unsendable(store)
        return False

    await forgetting("deliveries of webhooks that are not active", all_of_it, _GIVE_UP_SECONDS)
