"""Fixtures of the tests that settle a log of their own."""

from collections.abc import AsyncIterator, Iterator

import asyncpg
import clickhouse_connect
import pytest
import pytest_asyncio

from tests.integration.settling import Books
from tests.running import RunningStack, running_stack, scratch


@pytest.fixture(scope="session")
def engines_with_a_log_to_throw_away() -> Iterator[RunningStack]:
    """Engines beside `engines`: the log of these is cut, deleted and made anew."""
    with scratch() as path, running_stack(path / "state", "--only-engines") as running:
        yield running


@pytest_asyncio.fixture
async def books(engines_with_a_log_to_throw_away: RunningStack) -> AsyncIterator[Books]:
    """A new log, and databases of the test's own."""
    engines = engines_with_a_log_to_throw_away
    postgres, clickhouse = await engines.fresh_postgres(), await engines.fresh_clickhouse()
    ledger = await asyncpg.connect(postgres)
    rows = await clickhouse_connect.get_async_client(dsn=clickhouse)
    made = Books(engines.ready.kafka, postgres, clickhouse, ledger, rows)
    await made.log.make_anew()
    yield made
    await ledger.close()
    await rows.close()
