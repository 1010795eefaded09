"""kill -9 at random moments under load: each kind of process in turn, and everything at once."""

import asyncio
import signal
from pathlib import Path

import pytest

from tests.faults import form
from tests.faults.conftest import Breakable
from tests.faults.inflict import KINDS, everything, kill
from tests.faults.mix import make_campaigns
from tests.faults.scene import now, scene

pytestmark = pytest.mark.timeout(form.TIMEOUT_S)


@pytest.mark.parametrize("kinds", [(kind,) for kind in KINDS] if form.LONG else [KINDS], ids="-".join)
async def test_kill_9_at_random_moments_loses_and_doubles_nothing(
    breakable: Breakable, kinds: tuple[str, ...], tmp_path: Path
) -> None:
    name = f"kill -9 of {kinds[0]}" if form.LONG else "kill -9 of each process"
    async with scene(breakable.stack, f"{name}, {form.ROUNDS * len(kinds)} times", tmp_path) as under_load:
        for kind in under_load.dice.sample(kinds, len(kinds)) * form.ROUNDS:
            await under_load.pause(0, 2)
            pids = under_load.stack.ready.processes[kind]
            victims = pids if under_load.dice.random() < 0.3 else [under_load.dice.choice(pids)]
            since = now()
            kill(victims)
            seconds = await under_load.recovered(since)
            felt_by = under_load.gauges.complaints(since, now())
            print(f"{len(victims)} of {len(pids)} {kind}: felt {seconds:.1f} s {felt_by}")  # noqa: T201


@form.only_long
async def test_processes_that_are_told_to_end_under_load_lose_and_double_nothing(
    breakable: Breakable, tmp_path: Path
) -> None:
    """One after the other; the supervisor starts each again."""
    title = "SIGTERM to each process (Postgres: a fast shutdown)"
    async with scene(breakable.stack, title, tmp_path) as under_load:
        for kind in under_load.dice.sample(KINDS, len(KINDS)):
            await under_load.pause(0, 2)
            number = signal.SIGINT if kind == "postgres" else signal.SIGTERM
            since = now()
            kill(under_load.stack.ready.processes[kind], number)
            seconds = await under_load.recovered(since)
            felt_by = under_load.gauges.complaints(since, now())
            print(f"{kind} told to end: felt {seconds:.1f} s {felt_by}")  # noqa: T201


@form.only_long
async def test_kafka_killed_whenever_it_comes_back_for_a_while_loses_and_doubles_nothing(
    breakable: Breakable, tmp_path: Path
) -> None:
    """Its port refuses, for longer than aiokafka's consumers wait: they have to be begun anew."""
    title = f"kafka gone for {form.OUTAGE_S:.0f} s"
    async with scene(breakable.stack, title, tmp_path) as under_load:
        ends = now() + form.OUTAGE_S
        while now() < ends:
            kill(under_load.stack.ready.processes["kafka"])
            await asyncio.sleep(0.2)
        await under_load.recovered(now())
        await make_campaigns(under_load.stack)  # the doors hear of new ones


async def test_kill_9_of_everything_at_once_loses_and_doubles_nothing_and_up_goes_on(
    breakable: Breakable, tmp_path: Path
) -> None:
    first = breakable.stack
    async with scene(first, "kill -9 of everything at once, then `up`", tmp_path) as under_load:
        await under_load.pause(0, 2)
        victims, since = everything(first), now()
        kill(victims)
        first.process.wait(10)
        first.ready_file.unlink(missing_ok=True)  # of the stack that was killed
        under_load.stack = await asyncio.to_thread(breakable.up)
        ready_after = now() - since
        print(f"ready {ready_after:.1f} s after the kill")  # noqa: T201  a figure of the document
        await under_load.recovered(since)
        assert ready_after < form.RECOVERED_WITHIN_S
