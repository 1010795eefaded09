"""Ranges of the log read again, beside whoever reads it first. In a log of its own: these are no events."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from aggregator.errors import LogGapError, LogUnavailable
from aggregator.log_reader import LogReader
from schemas.topics import TRACKING_EVENTS
from tests.integration.settling import Books

PARTITIONS = (0, 1)


async def test_many_short_ranges_of_several_partitions_never_leave_the_reader_waiting(books: Books) -> None:
    kafka = books.engines[0]
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
    await producer.start()
    offsets = {}
    for partition in PARTITIONS:
        for number in range(10):
            sent = await producer.send_and_wait(TRACKING_EVENTS, b"%d" % number, partition=partition)
            offsets.setdefault(partition, sent.offset)
    await producer.stop()
    reader = LogReader(kafka)
    try:
        async with asyncio.timeout(60):
            for turn in range(100):
                partition, skip = turn % 2, turn % 10
                first = offsets[partition] + skip
                assert [part async for part in reader.read(partition, first, first)] == []
                parts = [part async for part in reader.read(partition, first, offsets[partition] + 10)]
                values = [int(record.value) for part in parts for record in part]
                assert values == list(range(skip, 10))
    finally:
        await reader.stop()


async def test_a_range_beyond_the_end_of_the_log_is_a_gap_and_holds_nobody_up(books: Books) -> None:
    kafka = books.engines[0]
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all") as producer:
        sent = await producer.send_and_wait(TRACKING_EVENTS, b"the last", partition=0)
    reader = LogReader(kafka)
    try:
        async with asyncio.timeout(60):
            with pytest.raises(LogGapError, match="ends before"):
                await read(reader, sent.offset, sent.offset + 1_000_000)
            first, end = await reader.bounds(0)
            assert first <= sent.offset < end
    finally:
        await reader.stop()


async def test_a_consumer_that_gives_nothing_of_what_the_log_holds_is_replaced(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = books.engines[0]
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all") as producer:
        sent = await producer.send_and_wait(TRACKING_EVENTS, b"there", partition=0)
    reader = LogReader(kafka)

    async def gives_nothing(*_: object, **__: object) -> dict[object, object]:
        await asyncio.sleep(0.01)
        return {}

    try:
        async with asyncio.timeout(60):
            with monkeypatch.context() as broken:
                broken.setattr(AIOKafkaConsumer, "getmany", gives_nothing)
                with pytest.raises(LogUnavailable, match="nothing comes"):
                    await read(reader, sent.offset, sent.offset + 1)
            assert await read(reader, sent.offset, sent.offset + 1) == 1
    finally:
        await reader.stop()


async def read(reader: LogReader, first_offset: int, next_offset: int) -> int:
    """How many records of partition 0 there are in the range."""
    return sum([len(records) async for records in reader.read(0, first_offset, next_offset)])
