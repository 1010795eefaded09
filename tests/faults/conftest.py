"""The stack that the tests of this folder break, again and again: each of them leaves it well."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.judge import VERIFIED_SOON
from tests.running import RunningStack, free_port_base, running_stack, scratch


class Breakable:
    """Two doors and two aggregators over the embedded engines; `up` brings them up, also after a kill."""

    stack: RunningStack

    def __init__(self, folder: Path, ends: contextlib.ExitStack) -> None:
        self._state = folder / "state"
        self._ports = free_port_base()
        self._ends = ends

    def up(self) -> RunningStack:
        """`flightline up` on the same state and the same ports as before."""
        parts = ("--ingest", "2", "--aggregators", "2")
        self.stack = self._ends.enter_context(
            running_stack(self._state, *parts, port_base=self._ports, env=VERIFIED_SOON)
        )
        return self.stack


@pytest.fixture(scope="session")
def breakable() -> Iterator[Breakable]:
    """For this folder alone: what it kills, nobody else uses."""
    with scratch() as folder, contextlib.ExitStack() as ends:
        made = Breakable(folder, ends)
        made.up()
        yield made
