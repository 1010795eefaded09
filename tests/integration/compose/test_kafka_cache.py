"""Kafka's classes that are loaded ahead of time are of use, and of no harm where they do not fit."""

from pathlib import Path

import pytest

from compose.engines import kafka
from compose.process import Process
from compose.supervisor import Supervisor
from tests.running import free_port_base


@pytest.mark.parametrize("cache", ["made by setup", "spoiled", "missing"])
async def test_a_broker_starts_with_its_cache_with_a_spoiled_one_and_without(
    folder: Path, monkeypatch: pytest.MonkeyPatch, cache: str
) -> None:
    file = kafka.cache_file()
    assert file.exists(), "make setup makes it"
    if cache != "made by setup":
        file = folder / file.name
        monkeypatch.setattr("compose.engines.kafka.cache_file", lambda: file)
    if cache == "spoiled":
        file.write_bytes(b"\0" * 100_000)
    port = free_port_base()
    supervisor = Supervisor(folder / "logs", lambda _: None)
    try:
        await supervisor.start([await kafka.prepare(folder / "data", port, port + 1)])
        (broker,) = supervisor.processes
        assert uses(broker, file) == (cache == "made by setup")
    finally:
        await supervisor.stop()


def uses(broker: Process, file: Path) -> bool:
    """Whether the process has the file mapped into its memory."""
    return str(file.resolve()) in Path(f"/proc/{broker.pid}/maps").read_text()
