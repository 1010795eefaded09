"""The read-back of compacted topics, by a real control API on a Kafka of its own."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import msgspec
import psutil
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from compose.process import die_with_parent
from compose.topics import ensure_topics
from schemas import access_keys, budget_gates, campaign_state
from schemas.budget_gates import BudgetGate, Coordinates
from schemas.reasons import Threshold
from sql.outbox import RELAY_SESSION, OutboxRelay
from sql.publisher import Publisher
from tests.integration.control import ControlApi, eventually, running_control_api
from tests.running import RunningStack, running_stack, scratch

_WITHIN = 60.0
_COMPACTED = (campaign_state.TOPIC, access_keys.TOPIC, budget_gates.TOPIC)


@pytest.fixture(scope="module")
def own_kafka(engines: RunningStack) -> Iterator[str]:
    """A broker of this module's own: it loses topics here."""
    env = {"FLIGHTLINE_POSTGRES": engines.ready.postgres, "FLIGHTLINE_CLICKHOUSE": engines.ready.clickhouse}
    with scratch() as path, running_stack(path / "state", "--only-engines", env=env) as running:
        yield running.ready.kafka


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(
    own_kafka: str, postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlApi]:
    await ensure_topics(own_kafka)
    async with running_control_api(own_kafka, postgres_dsn, tmp_path_factory.mktemp("api")) as running:
        yield running


async def write(api: ControlApi, topic: str, key: str, value: bytes | None) -> None:
    """What a publisher that was stalled leaves behind: a value at the end of the topic."""
    producer = AIOKafkaProducer(bootstrap_servers=api.kafka)
    await producer.start()
    try:
        await producer.send_and_wait(topic, value, key=key.encode())
    finally:
        await producer.stop()


async def last(api: ControlApi, topic: str, key: str) -> Any:
    """The value that compaction keeps; None for a tombstone or nothing at all."""
    values = await api.values(topic, key)
    return values[-1] if values else None


async def until_last(api: ControlApi, topic: str, key: str, **expected: Any) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        found = await last(api, topic, key)
        return found if found and expected.items() <= found.items() else None

    return await eventually(look, _WITHIN)


async def test_an_older_value_that_was_written_last_is_published_over(api: ControlApi) -> None:
    campaign = await api.active()
    states = await api.values(campaign_state.TOPIC, campaign["id"])
    assert [state["version"] for state in states] == [1, 2]
    await write(api, campaign_state.TOPIC, campaign["id"], msgspec.json.encode(states[0]))
    await until_last(api, campaign_state.TOPIC, campaign["id"], version=2, status="ACTIVE")


@pytest.mark.parametrize("value", [None, b"\xff{", b"{}", b"[" * 10_000, b'{"version": "x"}'])
async def test_a_tombstone_or_a_broken_value_over_a_living_one_is_published_over(
    api: ControlApi, value: bytes | None
) -> None:
    campaign = await api.create()
    await write(api, campaign_state.TOPIC, campaign["id"], value)

    async def mended() -> bool:
        return (await api.raw(campaign_state.TOPIC, campaign["id"]))[-1] not in (value, None)

    await eventually(mended, _WITHIN)
    assert (await last(api, campaign_state.TOPIC, campaign["id"]))["version"] == 1


async def test_a_revoked_key_whose_older_value_came_late_is_revoked_again(api: ControlApi) -> None:
    made = await api.call("POST", "/api-keys", {"name": "shop", "kind": "publishable"})
    key_hash = access_keys.hash_key(made.body["key"])

    async def published(versions: list[int]) -> bool:
        return [value["version"] for value in await api.values(access_keys.TOPIC, key_hash)] == versions

    await eventually(lambda: published([1]), _WITHIN)
    assert (await api.call("DELETE", f"/api-keys/{made.body['id']}")).status in (200, 204)
    await eventually(lambda: published([1, 2]), _WITHIN)
    first = (await api.values(access_keys.TOPIC, key_hash))[0]
    await write(api, access_keys.TOPIC, key_hash, msgspec.json.encode(first))
    await until_last(api, access_keys.TOPIC, key_hash, version=2, revoked=True)


async def test_gone_and_revoked_become_tombstones_after_thirty_days_and_not_before(api: ControlApi) -> None:
    gone, recent = await api.create(), await api.create()
    for campaign in (gone, recent):
        assert (await api.call("DELETE", f"/campaigns/{campaign['id']}")).status == 204
        await until_last(api, campaign_state.TOPIC, campaign["id"], gone=True)
    await api.sql(
        "UPDATE control.campaigns SET deleted_at = now() - interval '31 days' WHERE id = $1::uuid", gone["id"]
    )
    # The comparison of all keys comes with the next reading of the whole: at a start, for example.
    await restart(api)

    async def tombstoned() -> bool:
        return (await api.raw(campaign_state.TOPIC, gone["id"]))[-1] is None

    await eventually(tombstoned, _WITHIN)
    assert (await last(api, campaign_state.TOPIC, recent["id"]))["gone"] is True


async def test_what_postgres_does_not_know_is_left_alone(api: ControlApi) -> None:
    stranger = b'{"version": 7}'
    await write(api, campaign_state.TOPIC, "not even an id\0", stranger)
    await write(api, campaign_state.TOPIC, "0190f000-0000-7000-8000-00000000abcd", stranger)
    campaign = await api.active()
    state = (await api.values(campaign_state.TOPIC, campaign["id"]))[0]
    await write(api, campaign_state.TOPIC, campaign["id"], msgspec.json.encode(state))
    # The read-back came past the strangers, and still mends.
    await until_last(api, campaign_state.TOPIC, campaign["id"], version=2)
    for key in ("not even an id\0", "0190f000-0000-7000-8000-00000000abcd"):
        assert await api.raw(campaign_state.TOPIC, key) == [stranger]


async def restart(api: ControlApi) -> None:
    await asyncio.to_thread(api.stop)
    await api.start()


@asynccontextmanager
async def ledger_relay(api: ControlApi) -> AsyncIterator[None]:
    """The aggregator's part: what the ledger's outbox holds goes to Kafka."""
    publisher = Publisher(api.kafka, client_id="ledger-relay")

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(api.dsn, server_settings=RELAY_SESSION)

    task = asyncio.create_task(OutboxRelay(connect, "ledger", publisher.publish).run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await publisher.stop()


async def cross_in_ledger(api: ControlApi, campaign: dict[str, Any], threshold: str, billed: int) -> None:
    """A crossing as billing commits it."""
    await api.sql(
        "INSERT INTO ledger.crossings (campaign_id, budget_version, threshold, billed, received_at,"
        " incarnation, partition, log_offset, event_index)"
        " VALUES ($1::uuid, $2, $3, $4, '2026-11-01T00:00:00Z', 0, 3, $4, 7)",
        campaign["id"],
        campaign["budgetVersion"],
        threshold,
        billed,
    )
    await api.sql(
        "UPDATE ledger.accounts SET gate_version = gate_version + 1, billed = $2"
        " WHERE campaign_id = $1::uuid",
        campaign["id"],
        billed,
    )


async def test_a_gate_that_is_missing_or_stale_is_made_again_from_the_ledger(api: ControlApi) -> None:
    campaign = await api.active()
    await cross_in_ledger(api, campaign, "90", 9_000_000_000)
    await cross_in_ledger(api, campaign, "100", 10_000_000_000)
    stale = BudgetGate(
        campaign_id=campaign["id"],
        organization_id=api.made.organization_id,
        version=1,
        budget_version=1,
        thresholds=(Threshold.BUDGET_90,),
        billed=9_000_000_000,
        at=1_793_491_200_000,
        cause=Coordinates(0, 3, 9_000_000_000, 7),
    )
    expected = msgspec.structs.replace(
        stale,
        version=2,
        thresholds=(Threshold.BUDGET_90, Threshold.BUDGET_100),
        billed=10_000_000_000,
        cause=Coordinates(0, 3, 10_000_000_000, 7),
    )

    async def made_again() -> bool:
        return (await api.raw(budget_gates.TOPIC, campaign["id"]))[-1] == msgspec.json.encode(expected)

    async with ledger_relay(api):
        await write(api, budget_gates.TOPIC, campaign["id"], msgspec.json.encode(stale))
        await eventually(made_again, _WITHIN)
        await write(api, budget_gates.TOPIC, campaign["id"], None)
        await eventually(made_again, _WITHIN)


STALLS = """
import asyncio, os, signal, sys
import asyncpg
from sql.outbox import RELAY_SESSION, OutboxRelay
from sql.publisher import Publisher

dsn, kafka, version = sys.argv[1:]

async def main():
    publisher = Publisher(kafka, client_id="stalls")

    async def publish(topic, *, key, value, partition):
        if topic == "campaign-state" and f'"version":{version},'.encode() in value:
            os.kill(os.getpid(), signal.SIGSTOP)  # read from the outbox, and not yet sent
        await publisher.publish(topic, key=key, value=value, partition=partition)

    async def connect():
        return await asyncpg.connect(dsn, server_settings=RELAY_SESSION)

    await OutboxRelay(connect, "control", publish).run()

asyncio.run(main())
"""


def launch(*arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", *arguments],
        preexec_fn=die_with_parent(signal.SIGKILL, os.getpid()),  # noqa: PLW1509 - a system call only
    )


@asynccontextmanager
async def stalling_relay(api: ControlApi, version: int) -> AsyncIterator[psutil.Process]:
    """A relay that stops itself (SIGSTOP) just before it sends this version of a campaign."""
    process = launch(STALLS, api.dsn, api.kafka, str(version))
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait(10)


HOLDER = """
    SELECT a.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND a.application_name = 'flightline-outbox'
      AND a.datname = current_database()
      AND l.objid::bigint = hashtext('control_outbox')::bigint & x'ffffffff'::bigint
"""


async def test_a_publisher_stalled_between_reading_and_sending_leaves_no_older_value_for_good(
    api: ControlApi,
) -> None:
    campaign = await api.active()  # version 2
    identity = campaign["id"]
    assert await asyncio.to_thread(api.stop) == 0
    async with stalling_relay(api, 3) as stalled:
        # It has the lock before the control API asks for it.
        holder = await eventually(lambda: api.sql(HOLDER), _WITHIN)
        await api.start()
        assert (await api.call("POST", f"/campaigns/{identity}/pause", {})).status == 200

        async def has_stopped() -> bool:
            return stalled.status() == psutil.STATUS_STOPPED

        await eventually(has_stopped, _WITHIN)
        # What idle_session_timeout does half a minute later: its session ends, and with it the lock.
        await api.sql("SELECT pg_terminate_backend($1)", holder[0]["pid"])
        await until_last(api, campaign_state.TOPIC, identity, version=3)
        assert (await api.call("POST", f"/campaigns/{identity}/activate", {})).status == 200
        await until_last(api, campaign_state.TOPIC, identity, version=4)
        stalled.resume()

        async def versions() -> list[int]:
            return [state["version"] for state in await api.values(campaign_state.TOPIC, identity)]

        async def came_late_and_was_mended() -> bool:
            return await versions() == [1, 2, 3, 4, 3, 4]

        await eventually(came_late_and_was_mended, _WITHIN)


async def delete_topics(kafka: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.delete_topics(list(_COMPACTED))

        async def are_gone() -> bool:
            return not set(await admin.list_topics()) & set(_COMPACTED)

        await eventually(are_gone, _WITHIN)
    finally:
        await admin.close()


async def test_topics_that_were_made_anew_are_filled_from_postgres_while_all_runs_on(api: ControlApi) -> None:
    for _ in range(3):
        await api.active()
    await delete_topics(api.kafka)
    await ensure_topics(api.kafka)
    campaigns = await api.sql("SELECT id::text, version FROM control.campaigns WHERE deleted_at IS NULL")
    keys = await api.sql("SELECT key_hash, version FROM control.access_keys")

    async def filled() -> bool:
        states = await api.lasts(campaign_state.TOPIC)
        known = await api.lasts(access_keys.TOPIC)
        return all(states.get(row["id"], 0) >= row["version"] for row in campaigns) and all(
            known.get(row["key_hash"], 0) >= row["version"] for row in keys
        )

    await eventually(filled, 2 * _WITHIN)
    # What comes afterwards goes its usual way.
    campaign = await api.active()
    await until_last(api, campaign_state.TOPIC, campaign["id"], version=2)
