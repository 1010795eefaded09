"""The publisher on a real Kafka: order, deadlines that belong to records; what is dropped stays dropped."""

import asyncio
import contextlib
from collections.abc import Iterator

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from compose.topics import ensure_topics
from schemas import dead_letters
from sql.publisher import Deadlines, Publisher
from tests.processes import frozen
from tests.running import RunningStack, running_stack, scratch

_QUICK = Deadlines(connect=2.0, send=2.0, end=0.5)
_PARTITION = TopicPartition(dead_letters.TOPIC, 0)


@pytest.fixture(scope="module")
def own(engines: RunningStack) -> Iterator[RunningStack]:
    """A broker of this module's own: it is frozen here."""
    env = {"FLIGHTLINE_POSTGRES": engines.ready.postgres, "FLIGHTLINE_CLICKHOUSE": engines.ready.clickhouse}
    with scratch() as path, running_stack(path / "state", "--only-engines", env=env) as running:
        asyncio.run(ensure_topics(running.ready.kafka))
        yield running


@contextlib.asynccontextmanager
async def publisher(own: RunningStack, deadlines: Deadlines | None = None):
    outcomes: list[bool] = []
    made = Publisher(
        own.ready.kafka,
        client_id="test",
        deadlines=deadlines,
        on_outcome=lambda _topic, acked: outcomes.append(acked),
    )
    try:
        yield made, outcomes
    finally:
        await made.stop()


def send(made: Publisher, value: str) -> asyncio.Task[None]:
    publish = made.publish(dead_letters.TOPIC, key=None, value=value.encode(), partition=0)
    return asyncio.create_task(publish)


async def values(own: RunningStack, prefix: str) -> list[str]:
    """What the topic holds of one test, in order."""
    async with AIOKafkaConsumer(bootstrap_servers=own.ready.kafka, auto_offset_reset="earliest") as consumer:
        consumer.assign([_PARTITION])
        end = (await consumer.end_offsets([_PARTITION]))[_PARTITION]
        found = []
        while await consumer.position(_PARTITION) < end:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [(record.value or b"").decode() for record in records]
    return [value for value in found if value.startswith(prefix)]


async def until_taken(made: Publisher, value: str) -> None:
    """As callers do: sends again until Kafka has it."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await send(made, value)
            except (KafkaError, TimeoutError, OSError):
                await asyncio.sleep(0.1)


async def test_records_of_concurrent_calls_stand_in_the_order_of_the_calls(own: RunningStack) -> None:
    # Some too large for what is left of a batch: they must not be overtaken.
    wanted = [f"order-{i:03}" + "x" * (12_000 if i % 7 == 0 else 100) for i in range(200)]
    async with publisher(own) as (made, outcomes):
        await asyncio.gather(*(send(made, value) for value in wanted))
    assert await values(own, "order-") == wanted
    assert outcomes == [True] * len(wanted)


async def test_a_caller_that_gives_up_fails_nobody_elses_record(own: RunningStack) -> None:
    async with publisher(own) as (made, _):
        await until_taken(made, "given-up-0")
        with frozen(own.ready.processes["kafka"]):
            impatient, patient = send(made, "given-up-1"), send(made, "given-up-2")
            done, _ = await asyncio.wait({impatient, patient}, timeout=0.5)
            assert not done
            impatient.cancel()
            await asyncio.wait({impatient})
            assert impatient.cancelled()
        await patient
        assert await values(own, "given-up-") == ["given-up-0", "given-up-1", "given-up-2"]


async def test_a_frozen_kafka_fails_all_who_wait_after_one_deadline_and_works_again_when_it_moves(
    own: RunningStack,
) -> None:
    async with publisher(own, _QUICK) as (made, outcomes):
        with frozen(own.ready.processes["kafka"]):
            # Each has to connect first: had each a try of its own, the last would wait for minutes.
            waiting = [send(made, f"frozen-{i}") for i in range(100)]
            done, pending = await asyncio.wait(waiting, timeout=60)
            assert not pending
            assert all(isinstance(task.exception(), KafkaError | TimeoutError | OSError) for task in done)
            assert outcomes == [False] * 100
            assert not await made.is_connected()
        await until_taken(made, "moves-again")
        assert await made.is_connected()
        assert await values(own, "frozen-") == []


async def test_what_was_not_sent_when_it_is_stopped_is_never_sent(own: RunningStack) -> None:
    async with publisher(own) as (made, _), publisher(own) as (other, _):
        await until_taken(made, "stopped-0")
        with frozen(own.ready.processes["kafka"]):
            # The first is on the wire; of the second nobody but this process knows.
            waiting = [send(made, "stopped-1")]
            await asyncio.wait(waiting, timeout=0.5)
            waiting.append(send(made, "stopped-2"))
            await asyncio.wait(waiting, timeout=0.5)
            await made.stop()
            done, pending = await asyncio.wait(waiting, timeout=60)
            assert not pending
            assert all(isinstance(task.exception(), KafkaError) for task in done)
        await until_taken(other, "stopped-3")
        assert "stopped-2" not in await values(own, "stopped-")
        with pytest.raises(KafkaError):
            await send(made, "stopped-4")
