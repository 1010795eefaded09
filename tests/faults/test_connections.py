"""Connections between each pair that are reset, slow, or half open, under load."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import form
from tests.faults.proxied import Proxied, proxied_stack
from tests.faults.proxy import Mode
from tests.faults.scene import now, scene
from tests.running import scratch

_PAIRS = {
    "door": "the client and the door",
    "kafka": "the services and Kafka",
    "postgres": "the services and Postgres",
    "clickhouse": "the services and ClickHouse",
}
_FOR_S = 20.0 if form.LONG else 3.0
_RESET = [(pair,) for pair in _PAIRS] if form.LONG else [tuple(_PAIRS)]
pytestmark = pytest.mark.timeout(form.TIMEOUT_S)


@pytest.fixture(scope="module")
def proxied() -> Iterator[Proxied]:
    with scratch() as folder, proxied_stack(folder, "--ingest", "2", "--aggregators", "2") as running:
        yield running


@pytest.mark.parametrize("pairs", _RESET, ids="-".join)
async def test_connections_that_are_reset_again_and_again_lose_and_double_nothing(
    proxied: Proxied, pairs: tuple[str, ...], tmp_path: Path
) -> None:
    between = " and of ".join(_PAIRS[pair] for pair in pairs)
    title = f"connections between {between} reset again and again for {_FOR_S:.0f} s"
    async with scene(proxied.stack, title, tmp_path, door=proxied.door) as under_load:
        for pair in under_load.dice.sample(pairs, len(pairs)):
            ends, resets = now() + _FOR_S, 0
            while now() < ends:
                resets += proxied.proxies[pair].reset_all()
                await under_load.pause(0.1, 1.0)
            seconds = await under_load.recovered(now())
            print(f"{pair}: {resets} connections reset, felt for {seconds:.1f} s")  # noqa: T201
            assert resets


@form.only_long
@pytest.mark.parametrize("pair", _PAIRS)
@pytest.mark.parametrize("mode", [Mode.SLOW, Mode.SILENT, Mode.REFUSE])
async def test_a_connection_that_is_slow_or_half_open_or_refused_loses_and_doubles_nothing(
    proxied: Proxied, pair: str, mode: Mode, tmp_path: Path
) -> None:
    title = f"the connection between {_PAIRS[pair]} {mode} for {_FOR_S:.0f} s"
    async with scene(proxied.stack, title, tmp_path, door=proxied.door) as under_load:
        proxy = proxied.proxies[pair]
        passed = proxy.passed
        proxy.be(mode)
        if mode is Mode.REFUSE:
            proxy.reset_all()
        await asyncio.sleep(_FOR_S)
        proxy.be(Mode.PASS)
        await under_load.recovered(now())
        assert proxy.passed > passed
