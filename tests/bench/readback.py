"""What the read-back costs: `python -m tests.bench.readback [--campaigns N]`.

An empty Kafka beside a Postgres that has N campaigns: how long until the topic has all of them, how much
memory the control API takes for it, and how long a change takes to reach Kafka meanwhile and afterwards.
"""

import argparse
import asyncio
import contextlib
import time

import psutil
from aiokafka import AIOKafkaConsumer

from compose.topics import ensure_topics
from schemas import campaign_state
from tests.integration.control import ControlApi, running_control_api
from tests.running import running_stack, scratch

_COPIES = """
    WITH made AS (
        INSERT INTO control.campaigns (id, organization_id, name, type, targeting_rules, start_date, end_date,
            currency, settings, created_by)
        SELECT gen_random_uuid(), organization_id, name || n, type, targeting_rules, start_date, end_date,
            currency, settings, created_by
        FROM control.campaigns, generate_series(1, $2::int) AS n WHERE id = $1::uuid
        RETURNING id, organization_id, currency
    )
    INSERT INTO ledger.accounts (campaign_id, organization_id, currency) SELECT * FROM made
"""


async def slowest_change(api: ControlApi, seconds: float) -> float:
    """The longest time that an activation took until Kafka had it, in milliseconds. The API waits for two
    seconds at most."""
    until, slowest = time.monotonic() + seconds, 0.0
    while time.monotonic() < until:
        campaign = await api.create()
        began = time.monotonic()
        path = f"/campaigns/{campaign['id']}/activate"
        answer = await api.call("POST", path, {"startNow": True})
        assert answer.status == 200, answer
        slowest = max(slowest, time.monotonic() - began)
    return slowest * 1000


async def published(kafka: str) -> int:
    """Records of the topic: one a campaign, but for the few that change here."""
    async with AIOKafkaConsumer(campaign_state.TOPIC, bootstrap_servers=kafka) as consumer:
        return sum((await consumer.end_offsets(consumer.assignment())).values())


async def run(campaigns: int) -> None:
    with scratch() as folder, running_stack(folder / "state", "--only-engines") as engines:
        kafka, dsn = engines.ready.kafka, await engines.fresh_postgres()
        await ensure_topics(kafka)
        async with running_control_api(kafka, dsn, folder) as api:
            campaign = await api.create()
            print(f"memory before: {memory(api):.0f} MiB")  # noqa: T201  its output
            await asyncio.to_thread(api.stop)
            await api.sql(_COPIES, campaign["id"], campaigns)
            await api.start()
            began, changing = time.monotonic(), asyncio.create_task(slowest_change(api, 5))

            while await published(kafka) <= campaigns:
                await asyncio.sleep(0.5)
            print(f"{campaigns} campaigns published after {time.monotonic() - began:.0f} s")  # noqa: T201
            print(f"slowest activation meanwhile: {await changing:.0f} ms")  # noqa: T201
            print(f"slowest activation afterwards: {await slowest_change(api, 5):.0f} ms")  # noqa: T201
            print(f"memory: {memory(api):.0f} MiB")  # noqa: T201


def memory(api: ControlApi) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        return float(psutil.Process(api.pid).memory_info().rss) / 2**20
    return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--campaigns", type=int, default=100_000)
    asyncio.run(run(parser.parse_args().campaigns))


if __name__ == "__main__":
    main()
