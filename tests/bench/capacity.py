"""How much of the fault suite's traffic one machine carries, its client included: one rate after the other.

`python -m tests.bench.capacity [REQUESTS_PER_SECOND ...]`. A request carries some six events at the mean. A
rate is carried when, in the second half of its time, events are answered, counted and stored as soon as the
suite demands. The soak runs at 60 % of the highest rate that is carried.
"""

import asyncio
import os
import random
import sys
from dataclasses import dataclass

import psutil

os.environ.setdefault("FLIGHTLINE_FAULTS", "long")

from tests.faults.client import Client
from tests.faults.gauges import Gauges
from tests.faults.mix import Traffic, make_campaigns
from tests.faults.scene import now
from tests.running import RunningStack, running_stack, scratch

_RATES = (60, 90, 120, 150, 180, 210, 240, 270, 300)
_FOR_S = 30.0


@dataclass(frozen=True)
class Carried:
    """One rate: `complaints` are empty when it was carried; `busy` is the share of all cores."""

    requests: float
    events: float
    busy: float
    complaints: dict[str, str]


async def offer(stack: RunningStack, rate: float) -> Carried:
    """Offers the rate for a while and looks at the second half of it."""
    dice = random.Random(1)  # noqa: S311  choices, not secrets
    campaigns = await make_campaigns(stack)
    async with Client(stack.ready.ingest, stack.ready.server_key, dice) as client:
        traffic = Traffic(client, campaigns, dice, requests_per_second=rate)
        gauges = Gauges(stack, campaigns, traffic.record)
        await gauges.start()
        offering = asyncio.create_task(traffic.run())
        await asyncio.sleep(_FOR_S / 2)
        half, known = now(), len(traffic.record.events)
        psutil.cpu_percent()
        await asyncio.sleep(_FOR_S / 2)
        events = (len(traffic.record.events) - known) / (now() - half)
        busy, complaints = psutil.cpu_percent(), gauges.complaints(half, now())
        offering.cancel()
        await asyncio.gather(offering, return_exceptions=True)
        await traffic.finish(120)
        await gauges.stop()
    return Carried(rate, events, busy, complaints)


async def measure(rates: list[float]) -> None:
    """One line for each rate, until one is not carried."""
    with scratch() as folder, running_stack(folder / "state", "--ingest", "2", "--aggregators", "2") as stack:
        await offer(stack, 20)  # whatever is slow only at first
        for rate in rates:
            found = await offer(stack, rate)
            print(  # noqa: T201  the figures
                f"{found.requests:.0f} requests/s, {found.events:.0f} events/s, {found.busy:.0f} % busy:",
                found.complaints or "carried",
                flush=True,
            )
            if found.complaints:
                return


if __name__ == "__main__":
    asyncio.run(measure([float(rate) for rate in sys.argv[1:]] or list(_RATES)))
