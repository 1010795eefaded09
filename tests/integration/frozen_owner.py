"""A process that claims a partition and bills what its log holds; says how that ended. Made to be frozen."""

import asyncio
import sys
from pathlib import Path

from aggregator.errors import FencedError
from tests.integration.settling import owner


async def main(kafka: str, postgres: str, clickhouse: str, state: str, partition: str) -> None:
    async with owner(kafka, postgres, clickhouse, Path(state)) as first:
        try:
            await first.bill(int(partition))
        except FencedError:
            print("fenced", flush=True)  # noqa: T201  what the test waits for
        else:
            print("billed", flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
