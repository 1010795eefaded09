"""A scene: campaigns under traffic, in which something is broken, and which is judged at its end."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.e2e.replays import flightline
from tests.faults import form
from tests.faults.client import Client
from tests.faults.gauges import Gauges
from tests.faults.judge import Verdict, judge, until_counted, until_verified
from tests.faults.mix import Traffic, acknowledge_budgets, make_campaigns
from tests.faults.record import Record
from tests.faults.table import Row, publish
from tests.running import RunningStack

_FIRST_STEADY_S = 180
_ANSWERED_WITHIN_S = 120
_RECONCILED_WITHIN_S = 600
_LOG_LINES = 200


class Scene:
    """What a test of a fault sees. `stack` may be put in the place of one that was killed as a whole."""

    def __init__(self, stack: RunningStack, fault: str, dice: random.Random, seed: int) -> None:
        self.stack = stack
        self.fault = fault
        self.dice = dice
        self._seed = seed
        self._recoveries: list[float] = []

    @contextlib.asynccontextmanager
    async def traffic(self, door: str | None, **how: Any) -> AsyncIterator[None]:
        """Traffic that is at its throughput when the block begins, and all answered when it has ended."""
        stack = self.stack
        self.campaigns = await make_campaigns(stack)
        url, key = door or stack.ready.ingest, stack.ready.server_key
        async with Client(url, key, random.Random(self.dice.random())) as self.client:  # noqa: S311
            self._traffic = Traffic(self.client, self.campaigns, self.dice, **how)
            self.gauges = Gauges(stack, self.campaigns, self.record)
            await self.gauges.start()
            offering = [
                asyncio.create_task(self._traffic.run()),
                asyncio.create_task(acknowledge_budgets(stack, self.campaigns)),
            ]
            try:
                await self.gauges.steady(_FIRST_STEADY_S)
                yield
            finally:
                for task in offering:
                    task.cancel()
                await asyncio.gather(*offering, return_exceptions=True)
                await self._traffic.finish(_ANSWERED_WITHIN_S)
                await self.gauges.stop()

    @property
    def record(self) -> Record:
        """What the client knows."""
        return self._traffic.record

    async def recovered(self, since: float) -> float:
        """Waits until all is back at its former throughput; seconds after `since`, for the table."""
        try:
            seconds = await self.gauges.steady(form.RECOVERED_WITHIN_S, since)
        except AssertionError as error:
            told = [
                f"seed {self._seed}",
                str(error),
                *await self.gauges.diagnosis(),
                *self._aggregators_said(),
            ]
            raise AssertionError("\n".join(told)) from error
        self._recoveries.append(seconds)
        return seconds

    async def pause(self, least_s: float, most_s: float) -> None:
        """Until a random moment, with the traffic going on."""
        await asyncio.sleep(self.dice.uniform(least_s, most_s))

    async def verdict(self, folder: Path) -> None:
        """Judges; fails the test when anything was lost, doubled, or billed over a budget."""
        await until_counted(self.stack, self.campaigns, self.record)
        await until_verified(self.stack, _RECONCILED_WITHIN_S)
        promised_to = [campaign.id for campaign in self.campaigns if not campaign.plan.abandoned]
        file = self.record.write_promises(folder / "promises", promised_to)
        reconciled = await flightline(
            "reconcile", "--promises", file, "--timeout", str(_RECONCILED_WITHIN_S), stack=self.stack
        )
        found = await judge(self.stack, self.campaigns, self.record)
        publish(Row(self.fault, self._seed, found, tuple(self._recoveries)))
        assert found.is_clean, self._complaint(found, reconciled.text)
        assert reconciled.code == 0, self._complaint(found, reconciled.text)
        kept = {campaign.id for campaign in self.campaigns if campaign.plan.abandoned}
        unanswered = [event.event_id for event in self.record.unanswered if event.campaign_id not in kept]
        assert not unanswered, f"seed {self._seed}: no answer to {len(unanswered)} events: {unanswered[:3]}"

    def _complaint(self, found: Verdict, reconciled: str) -> str:
        told = [f"seed {self._seed}", str(found), f"retries {self.client.retries}", reconciled]
        return "\n".join([*told, *self._aggregators_said()])

    def _aggregators_said(self) -> list[str]:
        lines = [line for index in (0, 1) for line in self.stack.log(f"aggregator-{index}").splitlines()]
        return [line for line in lines if '"level": "' in line and '"level": "debug' not in line][
            -_LOG_LINES:
        ]


@contextlib.asynccontextmanager
async def scene(
    stack: RunningStack,
    fault: str,
    folder: Path,
    *,
    door: str | None = None,
    requests_per_second: float = 20,
    copies: int = 1,
    late: float = 0.3,
) -> AsyncIterator[Scene]:
    """A scene that is judged when the block has ended without a failure. `door`: the address that the client
    takes in place of the stack's own; the rest as `Traffic` has it."""
    seed = form.seed()
    print(f"{fault}: FLIGHTLINE_SEED={seed}")  # noqa: T201  a failure is looked at with it
    made = Scene(stack, fault, random.Random(seed), seed)  # noqa: S311  choices, not secrets
    how = {"requests_per_second": requests_per_second, "copies": copies, "late": late}
    async with made.traffic(door, **how):
        yield made
    await made.verdict(folder)


def now() -> float:
    """The clock of all measurements."""
    return time.monotonic()
