"""What is measured beside the traffic, and how long a fault was felt.

After a fault the whole is back at its former throughput when, again and to stay, events are answered within a
second of being offered, what is answered is counted two seconds later and stored three seconds later, and the
control API answers. The rate at which the client offers does not depend on the answers.
"""

import asyncio
import bisect
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Sequence

import aiohttp
import asyncpg

from tests.faults import form
from tests.faults.mix import Campaign
from tests.faults.record import Record
from tests.running import RunningStack

ANSWERED_WITHIN_S, COUNTED_WITHIN_S, STORED_WITHIN_S = (1.0, 2.0, 3.0) if form.LONG else (3.0, 6.0, 9.0)
"""The short form runs beside other tests, on machines that are busy: it does not measure, and one fault may
come before the last was felt."""
_EVERY_S = 0.2
_BUCKET_S = 0.25
_STEADY_S = 3.0 if form.LONG else 1.5
_SLOW_SHARE = 0.1
_ASK_S = 2.0

COUNTED = """
    SELECT coalesce(sum(impressions + clicks + conversions + bounces + unsubscribes), 0)
    FROM ledger.accounts WHERE campaign_id = ANY($1::uuid[])
"""
_CLICKHOUSE_AT_WORK = (
    "SELECT 1",
    "SELECT elapsed, substring(query, 1, 200) FROM system.processes FORMAT TSV",
    "SELECT elapsed, progress, is_mutation, num_parts FROM system.merges FORMAT TSV",
    "SELECT command, parts_to_do, latest_fail_reason FROM system.mutations WHERE NOT is_done FORMAT TSV",
    "SELECT active, count() FROM system.parts WHERE table = 'events' GROUP BY active FORMAT TSV",
)
_Sample = tuple[float, float | None]


class Gauges:
    """Samples the counts of ledger and ClickHouse and asks the control API, from `start` to `stop`."""

    def __init__(self, stack: RunningStack, campaigns: Sequence[Campaign], record: Record) -> None:
        self._stack = stack
        self._ids = [campaign.id for campaign in campaigns]
        self._abandoned = {campaign.id for campaign in campaigns if campaign.plan.abandoned}
        self._record = record
        self._counted: list[_Sample] = []
        self._stored: list[_Sample] = []
        self._api: list[_Sample] = []
        self._ledger: asyncpg.Connection | None = None

    async def start(self) -> None:
        ready = self._stack.ready
        self._addresses = ready
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ASK_S))
        works = (
            (self._counted, self._ask_ledger),
            (self._stored, self._ask_clickhouse),
            (self._api, self._ask_api),
        )
        self._tasks = [asyncio.create_task(_sample(into, ask)) for into, ask in works]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.close()
        if self._ledger is not None:
            self._ledger.terminate()

    async def steady(self, within_s: float, since: float | None = None) -> float:
        """Waits until all is as it should be for some seconds; returns when it was not, last, as seconds
        after `since` (now, if it isn't given): 0 when the fault was not felt at all."""
        since = time.monotonic() if since is None else since
        deadline = time.monotonic() + within_s
        while True:
            now = time.monotonic()
            last = self.last_bad(since, now)
            if now - max(last, since) > _STEADY_S + ANSWERED_WITHIN_S:
                return max(0.0, last - since)
            assert now < deadline, f"not recovered within {within_s:.0f} s: {self.complaints(since, now)}"
            await asyncio.sleep(_EVERY_S)

    async def diagnosis(self) -> list[str]:
        """What is to be seen of a stack that does not recover: samples, ClickHouse's work, the load."""
        told = [f"stored, last asked: {self._stored[-5:]}", f"load: {os.getloadavg()}"]
        for question in _CLICKHOUSE_AT_WORK:
            began = time.monotonic()
            try:
                answer = await self._query(question)
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                answer = repr(error)
            told.append(f"{question}: {answer!r} after {time.monotonic() - began:.2f} s")
        return told

    def last_bad(self, since: float, now: float) -> float:
        """The last moment at which anything was not as it should be; 0 when there was none."""
        return max((at for at, _ in self._bad(since, now)), default=0.0)

    def complaints(self, since: float, now: float) -> dict[str, str]:
        """What was last wrong, by what it is about."""
        return {what: f"{at - since:.1f} s after the fault" for at, what in sorted(self._bad(since, now))}

    def _bad(self, since: float, now: float) -> list[tuple[float, str]]:
        answered = sorted(e.answered_at for e in self._record.events if e.answered_at is not None)
        bad = [(at, "answers") for at in self._slow_buckets(since, now)]
        lags = (("counted", self._counted, COUNTED_WITHIN_S), ("stored", self._stored, STORED_WITHIN_S))
        for what, samples, within in lags:
            bad += [
                (at, what)
                for at, value in _since(samples, since)
                if value is None or value < bisect.bisect(answered, at - within)
            ]
            if not samples or samples[-1][0] < now - 3 * _ASK_S:
                bad.append((now, f"{what} can't be asked"))
        return bad + [(at, "control API") for at, value in _since(self._api, since) if value is None]

    def _slow_buckets(self, since: float, now: float) -> list[float]:
        offered: dict[int, list[bool]] = {}
        for event in reversed(self._record.events):
            if event.offered_at < since:
                break
            if (
                event.offered_at > now - ANSWERED_WITHIN_S
                or event.malformed
                or event.campaign_id in self._abandoned
            ):
                continue
            done = event.answered_at
            slow = done is None or done - event.offered_at > ANSWERED_WITHIN_S
            offered.setdefault(int(event.offered_at / _BUCKET_S), []).append(slow)
        return [
            (bucket + 1) * _BUCKET_S
            for bucket, slow in offered.items()
            if sum(slow) > _SLOW_SHARE * len(slow)
        ]

    async def _ask_ledger(self) -> float:
        if self._ledger is None or self._ledger.is_closed():
            self._ledger = await asyncpg.connect(
                self._addresses.postgres, timeout=_ASK_S, command_timeout=_ASK_S
            )
        return float(await self._ledger.fetchval(COUNTED, self._ids))

    async def _ask_clickhouse(self) -> float:
        ids = ", ".join(f"'{id_}'" for id_ in self._ids)
        query = f"SELECT count() FROM events WHERE campaign_id IN ({ids})"  # noqa: S608  ids of our own
        return float(await self._query(query))

    async def _query(self, query: str) -> str:
        base, _, database = self._addresses.clickhouse.rpartition("/")
        async with self._http.post(base, params={"database": database}, data=query) as answer:
            return await answer.text()

    async def _ask_api(self) -> float:
        url = f"{self._addresses.control_api}/api/v1/campaigns/{self._ids[0]}"
        headers = {"Authorization": f"Bearer {self._addresses.admin_token}"}
        async with self._http.get(url, headers=headers) as answer:
            answer.raise_for_status()
            return 1.0


async def _sample(into: list[_Sample], ask: Callable[[], Awaitable[float]]) -> None:
    while True:
        asked_at = time.monotonic()
        value: float | None = None
        with contextlib.suppress(Exception):  # whatever it is: what can't be asked is not well
            async with asyncio.timeout(2 * _ASK_S):
                value = await ask()
        # A count is of a moment between question and answer: it is not late by what the question took.
        into.append((asked_at if value is not None else time.monotonic(), value))
        await asyncio.sleep(_EVERY_S)


def _since(samples: list[_Sample], since: float) -> list[_Sample]:
    return samples[bisect.bisect(samples, since, key=lambda sample: sample[0]) :]
