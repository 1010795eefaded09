"""The clock of the doors and the aggregators is stepped under load, against that of the engines."""

import time
from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect
import msgspec
import pytest

from tests.faults import form
from tests.faults.judge import VERIFIED_SOON
from tests.faults.scene import now, scene
from tests.running import RunningStack, running_stack, scratch

_STEPS_S = (3_600, 300, 7_200, 0)
"""Ahead of the machine's time: forth, back, forth, back. Behind it, campaigns would have yet to start."""

pytestmark = [form.only_long, pytest.mark.timeout(form.TIMEOUT_S)]


class Stepped(msgspec.Struct, frozen=True):
    """A stack, and the file that steps its clock."""

    stack: RunningStack
    file: Path

    def step(self, seconds: int) -> None:
        """Puts the clock so far ahead of the machine's, at once."""
        new = self.file.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self.file)


@pytest.fixture(scope="module")
def stepped() -> Iterator[Stepped]:
    with scratch() as folder:
        file = folder / "ahead"
        file.write_text("0")
        env = VERIFIED_SOON | {
            "PYTHONPATH": str(Path(__file__).parent / "clock"),
            "FLIGHTLINE_STEPPED_CLOCK": str(file),
        }
        parts = ("--ingest", "2", "--aggregators", "2")
        with running_stack(folder / "state", *parts, env=env) as stack:
            yield Stepped(stack, file)


async def test_a_clock_that_is_stepped_forth_and_back_loses_and_doubles_nothing(
    stepped: Stepped, tmp_path: Path
) -> None:
    steps = ", ".join(f"{step // 60} min" for step in _STEPS_S)
    async with scene(stepped.stack, f"clock stepped under load, ahead by {steps}", tmp_path) as under_load:
        for step in _STEPS_S:
            await under_load.pause(2, 6)
            since = now()
            stepped.step(step)
            await under_load.recovered(since)
    assert await newest(stepped.stack) - time.time() > max(_STEPS_S) / 2, "no door's clock was ever ahead"


async def newest(stack: RunningStack) -> float:
    """When the last of all events was received, by the clocks of the doors; Unix time."""
    client = await clickhouse_connect.get_async_client(dsn=stack.ready.clickhouse)
    try:
        result = await client.query("SELECT toUnixTimestamp(max(received_at)) FROM events")
        return float(result.result_rows[0][0])
    finally:
        await client.close()
