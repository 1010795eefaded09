"""A stack whose every connection goes through a proxy: client and door, and the services and each engine."""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec

from compose.engines import kafka
from compose.process import die_with_parent
from tests.faults.judge import VERIFIED_SOON
from tests.faults.proxy import Proxy
from tests.running import RunningStack, free_port_base, running_stack, until

_STARTS_WITHIN_S = 60


class Proxied(msgspec.Struct, frozen=True):
    """The stack, and the proxies by what stands behind them: door, kafka, postgres, clickhouse."""

    stack: RunningStack
    proxies: dict[str, Proxy]

    @property
    def door(self) -> str:
        """The door's address for the client."""
        return f"http://127.0.0.1:{self.proxies['door'].port}"


@contextlib.contextmanager
def proxied_stack(folder: Path, *arguments: str) -> Iterator[Proxied]:
    """Engines of one `up`, and a Kafka that advertises its proxy, serve the services of another `up`."""
    engines_base, base = free_port_base(), free_port_base()
    while base == engines_base:
        base = free_port_base()
    # Behind the last of the ports that `up` uses itself.
    targets = {"kafka": engines_base + 5, "postgres": engines_base + 4, "clickhouse": engines_base + 3}
    fronts = {name: base + 26 + index for index, name in enumerate(targets)}
    with contextlib.ExitStack() as opened:
        proxies = {name: opened.enter_context(Proxy(fronts[name], targets[name])) for name in targets}
        opened.enter_context(_kafka(folder / "kafka", targets["kafka"], fronts["kafka"]))
        env = VERIFIED_SOON | {"FLIGHTLINE_KAFKA": f"127.0.0.1:{fronts['kafka']}"}
        engines = opened.enter_context(
            running_stack(folder / "engines", "--only-engines", port_base=engines_base, env=env)
        )
        for name in ("postgres", "clickhouse"):
            address = getattr(engines.ready, name)
            env[f"FLIGHTLINE_{name.upper()}"] = address.replace(f":{targets[name]}/", f":{fronts[name]}/")
        stack = opened.enter_context(running_stack(folder / "state", *arguments, port_base=base, env=env))
        proxies["door"] = opened.enter_context(Proxy(base + 25, base))
        yield Proxied(stack, proxies)


@contextlib.contextmanager
def _kafka(data: Path, port: int, advertised: int) -> Iterator[None]:
    spec = asyncio.run(kafka.prepare(data, port, port + 1))
    config = data / "server.properties"
    name = "advertised.listeners=PLAINTEXT://127.0.0.1"
    config.write_text(config.read_text().replace(f"{name}:{port}", f"{name}:{advertised}"))
    with (data / "output").open("ab") as output:
        process = subprocess.Popen(
            [str(part) for part in spec.argv],
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent(spec.stop_signal, os.getpid()),  # noqa: PLW1509 - a system call only
        )
    try:
        until(lambda: asyncio.run(kafka.answers("127.0.0.1", port)), _STARTS_WITHIN_S, "Kafka")
        yield
    finally:
        process.kill()
        process.wait(20)
