"""A stack on the real engines: starts, is killed in parts and as a whole, comes back with its data, stops."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import clickhouse_connect
import msgspec
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError
from clickhouse_connect.driver.exceptions import ClickHouseError

from compose.doctor import examine
from compose.errors import ComposeError
from compose.layout import HOST, Ports, State
from compose.topics import differences, ensure_topics
from control_api.auth.tokens import Tokens
from tests.running import ReadyFile, RunningStack, free_port_base, running_stack, until

ENGINES = ("kafka", "postgres", "clickhouse")


def pids(ready: ReadyFile) -> list[int]:
    return [pid for name in ENGINES for pid in ready.processes[name]]


def with_descendants(ready: ReadyFile) -> list[psutil.Process]:
    own = [psutil.Process(pid) for pid in pids(ready)]
    return own + [child for process in own for child in process.children(recursive=True)]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


async def write_everywhere(ready: ReadyFile, value: int) -> None:
    """One row in Postgres, one in ClickHouse, one record in Kafka, each acknowledged."""
    postgres = await asyncpg.connect(ready.postgres)
    await postgres.execute("CREATE TABLE IF NOT EXISTS t (x bigint)")
    await postgres.execute("INSERT INTO t VALUES ($1)", value)
    await postgres.close()
    clickhouse = await clickhouse_connect.get_async_client(dsn=ready.clickhouse)
    await clickhouse.command("CREATE TABLE IF NOT EXISTS t (x UInt64) ENGINE = MergeTree ORDER BY x")
    await clickhouse.insert("t", [[value]], column_names=["x"])
    await clickhouse.close()
    await ensure_topics(ready.kafka)
    async with AIOKafkaProducer(bootstrap_servers=ready.kafka, acks="all") as producer:
        await producer.send_and_wait("dead-letters", str(value).encode(), partition=0)


async def read_everywhere(ready: ReadyFile, records: int) -> tuple[list[int], list[int], list[int]]:
    postgres = await asyncpg.connect(ready.postgres)
    rows = [row["x"] for row in await postgres.fetch("SELECT x FROM t ORDER BY x")]
    await postgres.close()
    clickhouse = await clickhouse_connect.get_async_client(dsn=ready.clickhouse)
    result = await clickhouse.query("SELECT x FROM t ORDER BY x")
    await clickhouse.close()
    return rows, [row[0] for row in result.result_rows], await records_of(ready.kafka, records)


async def records_of(bootstrap: str, count: int) -> list[int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    async with consumer:
        partition = TopicPartition("dead-letters", 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        async with asyncio.timeout(90):  # also of a broker that has to start once more
            return [int((await consumer.getone()).value or b"") for _ in range(count)]


async def test_data_survives_ctrl_c_which_leaves_no_process_and_other_ports_are_fine(folder: Path) -> None:
    state = folder / "state"
    with running_stack(state, "--only-engines") as first:
        await write_everywhere(first.ready, 1)
        processes = with_descendants(first.ready)
        assert first.stop(signal.SIGINT) == 0
        assert alive(processes) == []
        assert not first.ready_file.exists()
    began = time.monotonic()
    with running_stack(state, "--only-engines") as second:
        print(f"second start: {time.monotonic() - began:.1f} s")  # noqa: T201 - a figure for the README
        await write_everywhere(second.ready, 2)
        assert await read_everywhere(second.ready, 2) == ([1, 2], [1, 2], [1, 2])


async def test_a_killed_supervisor_leaves_nothing_running_and_the_next_start_has_all_data(
    folder: Path,
) -> None:
    state, base = folder / "state", free_port_base()
    with running_stack(state, "--only-engines", port_base=base) as first:
        await write_everywhere(first.ready, 1)
        processes = with_descendants(first.ready)
        first.process.kill()
        first.process.wait(10)
        first.ready_file.unlink()
        # At once, while the old engines are still ending, and on the same ports.
        with running_stack(state, "--only-engines", port_base=base) as second:
            await write_everywhere(second.ready, 2)
            assert await read_everywhere(second.ready, 2) == ([1, 2], [1, 2], [1, 2])
            assert alive(processes) == []


async def test_each_killed_engine_is_started_again_with_all_that_it_had_acknowledged(folder: Path) -> None:
    with running_stack(folder / "state", "--only-engines") as running:
        await write_everywhere(running.ready, 1)
        for value, engine in enumerate(ENGINES, start=2):
            kill(running, engine)
            await eventually_written(running, value)
        for found in await read_everywhere(running.ready, len(ENGINES) + 1):
            assert set(found) == {1, 2, 3, 4}  # a write that had no answer may have been made twice
        await clickhouse_killed_in_the_middle_of_inserts_keeps_every_answered_block(running)


def kill(running: RunningStack, engine: str) -> None:
    (old,) = running.ready.processes[engine]
    os.kill(old, signal.SIGKILL)
    until(lambda: running.ready.processes[engine] not in ([], [old]), 20, f"{engine} started again")


async def eventually_written(running: RunningStack, value: int) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                return await write_everywhere(running.ready, value)
            except (
                OSError,
                ComposeError,
                KafkaError,
                ClickHouseError,
                asyncpg.PostgresError,
                asyncpg.InterfaceError,
            ):
                await asyncio.sleep(0.2)


async def clickhouse_killed_in_the_middle_of_inserts_keeps_every_answered_block(
    running: RunningStack,
) -> None:
    address = running.ready.clickhouse
    client = await clickhouse_connect.get_async_client(dsn=address, autogenerate_session_id=False)
    await client.command(
        "CREATE TABLE k (x UInt64) ENGINE = MergeTree ORDER BY x SETTINGS fsync_after_insert = 1"
    )
    answered: list[int] = []
    inserting = asyncio.create_task(insert_until_it_dies(address, answered))
    async with asyncio.timeout(30):
        while len(answered) < 20:
            await asyncio.sleep(0.01)
    kill(running, "clickhouse")
    await inserting
    found = await eventually_asked(address, "SELECT DISTINCT x FROM k")
    await client.close()
    assert set(answered) <= found
    assert len(found) - len(answered) <= 1


async def insert_until_it_dies(address: str, answered: list[int]) -> None:
    client = await clickhouse_connect.get_async_client(dsn=address, autogenerate_session_id=False)
    try:
        while True:
            value = len(answered)
            await client.insert("k", [[value]] * 1000, column_names=["x"], settings={"async_insert": 0})
            answered.append(value)
    except (OSError, ClickHouseError):
        await client.close()


async def eventually_asked(address: str, query: str) -> set[int]:
    async with asyncio.timeout(60):
        while True:
            try:
                client = await clickhouse_connect.get_async_client(dsn=address)
                return {row[0] for row in (await client.query(query)).result_rows}
            except (OSError, ClickHouseError):
                await asyncio.sleep(0.2)


def up(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """`flightline up` that is expected to refuse at once."""
    command = [sys.executable, "-m", "compose.cli", "up", "--only-engines", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_two_stacks_run_side_by_side_and_never_on_one_state_or_one_port(
    engines: RunningStack, folder: Path
) -> None:
    with running_stack(folder / "other", "--only-engines") as other:
        assert set(pids(other.ready)).isdisjoint(pids(engines.ready))
        refused = up("--state", str(engines.state), "--port-base", str(free_port_base()))
        assert refused.returncode == 1
        assert "--state" in refused.stderr
        taken = int(other.ready.kafka.rpartition(":")[2])
        refused = up("--state", str(folder / "third"), "--port-base", str(taken - 5))
        assert refused.returncode == 1
        assert "--port-base" in refused.stderr
        assert str(taken) in refused.stderr
        assert alive(with_descendants(other.ready))


def test_an_engine_with_an_address_in_the_environment_is_not_started(
    engines: RunningStack, folder: Path
) -> None:
    env = {"FLIGHTLINE_KAFKA": engines.ready.kafka, "FLIGHTLINE_POSTGRES": engines.ready.postgres}
    with running_stack(folder / "state", "--only-engines", env=env) as running:
        assert running.ready.kafka == engines.ready.kafka
        assert running.ready.processes["kafka"] == []
        assert running.ready.processes["postgres"] == []
        assert len(running.ready.processes["clickhouse"]) == 1
        assert running.ready.clickhouse.partition("@")[2].startswith(HOST)


def test_secrets_are_for_their_owner_only(engines: RunningStack) -> None:
    for file in (engines.state / "secrets.json", engines.ready_file):
        assert file.stat().st_mode & 0o077 == 0


def test_doctor_says_what_is_missing_and_how_to_mend_it(engines: RunningStack, folder: Path) -> None:
    command = [sys.executable, "-m", "compose.cli"]
    nowhere = subprocess.run(
        [*command, "doctor", "--state", str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert nowhere.returncode == 1
    assert "flightline up" in nowhere.stdout
    subprocess.run([*command, "migrate", "--state", str(engines.state)], timeout=60, check=True)
    well = subprocess.run(
        [*command, "doctor", "--state", str(engines.state)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert well.returncode == 0, well.stdout


async def test_a_topic_that_is_corrected_keeps_what_else_was_set_for_it(engines: RunningStack) -> None:
    kafka = engines.ready.kafka
    await ensure_topics(kafka)
    own = {"max.message.bytes": "1048577", "min.insync.replicas": "1", "retention.ms": "60000"}
    await set_for_topic(kafka, "dead-letters", own)
    assert await differences(kafka) == ["topic dead-letters has another retention.ms"]
    await ensure_topics(kafka)
    assert await differences(kafka) == []
    corrected = own | {"retention.ms": str(30 * 86_400_000)}
    assert await set_at_topic(kafka, "dead-letters") == corrected
    await set_for_topic(kafka, "dead-letters", {"retention.ms": corrected["retention.ms"]})


async def set_for_topic(kafka: str, topic: str, values: dict[str, str]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=values)])
    await admin.close()


async def set_at_topic(kafka: str, topic: str) -> dict[str, str]:
    """What the broker names as set for the topic itself."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    await admin.close()
    ((_, _, _, _, entries),) = answer.resources
    return {name: value for name, value, _, source, *_ in entries if source == 1}


@pytest.mark.parametrize("kafka", ["nowhere", "nowhere:port", "http://nowhere:1"])
def test_an_address_that_is_none_is_told_by_every_command(folder: Path, kafka: str) -> None:
    for name in ("doctor", "up", "migrate"):
        refused = subprocess.run(
            [sys.executable, "-m", "compose.cli", name, "--state", str(folder)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "FLIGHTLINE_KAFKA": kafka},
        )
        assert refused.returncode == 1
        assert "FLIGHTLINE_KAFKA must be host:port" in refused.stdout + refused.stderr
        assert "Traceback" not in refused.stderr


async def test_doctor_finds_the_broker_that_answers_and_what_does_not(
    engines: RunningStack, folder: Path
) -> None:
    silent = f"{HOST}:{free_port_base()}"
    elsewhere = {
        "FLIGHTLINE_KAFKA": f"{silent},{engines.ready.kafka}",
        "FLIGHTLINE_POSTGRES": f"postgresql://nobody@{engines.ready.kafka}/x",
        "FLIGHTLINE_CLICKHOUSE": f"http://{silent}/x",
    }
    found = {each.what: each for each in await examine(State(folder), Ports(), elsewhere)}
    assert found["Kafka"].ok
    assert f"not on {silent}" in found["Kafka"].detail
    for engine in ("Postgres", "ClickHouse"):
        assert not found[engine].ok
        assert f"FLIGHTLINE_{engine.upper()}" in found[engine].mend


def test_an_error_with_brackets_is_told_as_it_is(folder: Path) -> None:
    named = folder / "[/red]"
    refused = subprocess.run(
        [sys.executable, "-m", "compose.cli", "token", "--state", str(named)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 1
    assert f"no stack runs on {named}" in refused.stderr


async def test_a_token_for_services_that_run_elsewhere_is_signed_with_their_secret(
    engines: RunningStack, folder: Path
) -> None:
    made = await said(folder, await elsewhere(engines), "token")
    assert Tokens(SECRET).verify(made.stdout.strip(), datetime.now(UTC)).roles == ("admin",)


async def test_organizations_are_made_with_an_admin_and_keys_of_their_own(
    engines: RunningStack, folder: Path
) -> None:
    addresses = await elsewhere(engines)
    made = [
        msgspec.json.decode((await said(folder, addresses, "organization", name)).stdout)
        for name in ("Nord", "Süd")
    ]
    claims = [Tokens(SECRET).verify(each["admin_token"], datetime.now(UTC)) for each in made]
    assert [each.org for each in claims] == [each["organization_id"] for each in made]
    connection = await asyncpg.connect(addresses["FLIGHTLINE_POSTGRES"])
    rows = await connection.fetch(
        "SELECT o.name, count(k.id) AS keys FROM control.organizations AS o"
        " JOIN control.access_keys AS k ON k.organization_id = o.id GROUP BY o.name ORDER BY o.name"
    )
    await connection.close()
    assert [tuple(row) for row in rows] == [("Nord", 2), ("Süd", 2)]
    assert len({each["write_key"] for each in made} | {each["server_key"] for each in made}) == 4
    with pytest.raises(subprocess.CalledProcessError):
        await said(folder, addresses, "organization", " ")


SECRET = "a secret of services that run elsewhere"


async def elsewhere(engines: RunningStack) -> dict[str, str]:
    """The environment of a command for services that run elsewhere."""
    return {
        "FLIGHTLINE_KAFKA": engines.ready.kafka,
        "FLIGHTLINE_POSTGRES": await engines.fresh_postgres(),
        "FLIGHTLINE_CLICKHOUSE": await engines.fresh_clickhouse(),
        "FLIGHTLINE_JWT_SECRET": SECRET,
    }


async def said(
    folder: Path, environ: dict[str, str], command: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """What the command has said."""
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "compose.cli", command, *arguments, "--state", str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, **environ},
    )
