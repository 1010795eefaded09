"""Fixtures over the real engines. `engines`: Kafka, Postgres, ClickHouse; `stack`: the services as well."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from compose.topics import ensure_topics
from tests.running import RunningStack, running_stack, scratch

# The tests call gRPC and start processes. gRPC's handlers of a fork give up while a call is under way; its
# poller then aborts the child, whose files are closed, before that has become what it was started for.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"


@pytest.fixture
def folder() -> Iterator[Path]:
    """For the states of stacks that a test starts itself; not pytest's `tmp_path`, see `scratch`."""
    with scratch() as path:
        yield path


@pytest.fixture(scope="session")
def engines() -> Iterator[RunningStack]:
    """One set of engines for the whole session; take fresh databases in it."""
    with scratch() as path, running_stack(path / "state", "--only-engines") as running:
        yield running


@pytest.fixture(scope="session")
def stack() -> Iterator[RunningStack]:
    """A full `flightline up` for the whole session; make campaigns of your own in it, stop nothing."""
    with scratch() as path, running_stack(path / "state") as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kafka(engines: RunningStack) -> str:
    """The address of a broker that has all topics. They are shared: read what your own test wrote."""
    await ensure_topics(engines.ready.kafka)
    return engines.ready.kafka


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def postgres_dsn(engines: RunningStack) -> str:
    """A migrated database of this test module's own."""
    return await engines.fresh_postgres()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def clickhouse_url(engines: RunningStack) -> str:
    """A migrated ClickHouse database of this test module's own."""
    return await engines.fresh_clickhouse()
