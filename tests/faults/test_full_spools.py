"""Kafka is away for longer than the doors have room for: their spools are full, or their disk is."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import form
from tests.faults.judge import VERIFIED_SOON
from tests.faults.scene import Scene, now, scene
from tests.integration.broken import small_disk
from tests.processes import frozen
from tests.running import RunningStack, running_stack, scratch

_PARTS = ("--ingest", "2", "--aggregators", "2")
_REQUESTS_PER_SECOND = 40
_FULL_WITHIN_S = 240
_REFUSED = 100
_FULL_FOR_S = 10.0

pytestmark = [form.only_long, pytest.mark.timeout(form.TIMEOUT_S)]


@pytest.fixture
def small_spools() -> Iterator[RunningStack]:
    """Doors that may spool 1 MiB each."""
    env = VERIFIED_SOON | {"FLIGHTLINE_SPOOL_MB": "1"}
    with scratch() as folder, running_stack(folder / "state", *_PARTS, env=env) as stack:
        yield stack


@pytest.fixture
def spools_on_a_small_disk() -> Iterator[RunningStack]:
    """Doors whose spools lie on a file system of 3 MiB."""
    with scratch() as folder:
        spools = folder / "state" / "ingest" / "spool"
        spools.mkdir(parents=True)
        with (
            small_disk(spools, "3m"),
            running_stack(folder / "state", *_PARTS, env=VERIFIED_SOON) as stack,
        ):
            yield stack


async def test_kafka_stopped_until_the_spools_are_full_loses_and_doubles_nothing(
    small_spools: RunningStack, tmp_path: Path
) -> None:
    title = "kafka stopped until the spools of all doors were full"
    async with scene(small_spools, title, tmp_path, requests_per_second=_REQUESTS_PER_SECOND) as under_load:
        await until_full_and_back(under_load)


async def test_the_spools_disk_full_while_kafka_is_stopped_loses_and_doubles_nothing(
    spools_on_a_small_disk: RunningStack, tmp_path: Path
) -> None:
    title = "kafka stopped until the disk of the spools was full"
    async with scene(
        spools_on_a_small_disk, title, tmp_path, requests_per_second=_REQUESTS_PER_SECOND
    ) as under_load:
        await until_full_and_back(under_load)


async def until_full_and_back(under_load: Scene) -> None:
    """Stops Kafka until the doors refuse, and for some seconds more."""
    began = now()
    with frozen(under_load.stack.ready.processes["kafka"]):
        async with asyncio.timeout(_FULL_WITHIN_S):
            while under_load.client.retries.get("503", 0) < _REFUSED:
                await asyncio.sleep(0.1)
        print(f"full after {now() - began:.1f} s")  # noqa: T201  a figure for whoever reads the run
        await asyncio.sleep(_FULL_FOR_S)
    await under_load.recovered(now())
