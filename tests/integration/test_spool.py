"""What the door promises while Kafka is away, and what becomes of it."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest_asyncio

from schemas.campaign_state import CampaignState
from schemas.ids import partition_of
from schemas.reasons import CampaignStatus
from tests.integration.broken import broker, full_disk, small_disk
from tests.integration.door import (
    Door,
    Line,
    Publisher,
    eventually,
    now_ms,
    publishing,
    read_log,
    running_door,
)
from tests.processes import frozen
from tests.running import RunningStack

DEADLINE_S = 2.0
CLIENTS_GIVE_UP_S = 10.0
DRAINED_WITHIN_S = 60
SPOOLED = "flightline_ingest_spool_events"
DRAINED = "flightline_ingest_drained_events_total"


class Sender:
    """Sends numbered events of one campaign and remembers what was promised."""

    def __init__(self, publisher: Publisher, campaign: CampaignState, key: str) -> None:
        self.organization = publisher.organization
        self.campaign = campaign
        self.key = key
        self.promised: list[str] = []

    def event(self, event_id: str, **fields: Any) -> dict[str, Any]:
        return {"campaignId": self.campaign.campaign_id, "type": "CLICK", "eventId": event_id, **fields}

    async def send(self, door: Door, *event_ids: str, **fields: Any) -> tuple[int, str | None, float]:
        """POSTs a batch; gives status, Retry-After and seconds."""
        started = time.monotonic()
        body = msgspec.json.encode([self.event(event_id, **fields) for event_id in event_ids])
        headers = {"X-Write-Key": self.key, "Content-Type": "application/json"}
        async with door.http.post(f"{door.url}/v1/events", data=body, headers=headers) as response:
            answer = await response.read()
        if response.status == 202:
            self.promised += [result["eventId"] for result in msgspec.json.decode(answer)["results"]]
        return response.status, response.headers.get("Retry-After"), time.monotonic() - started

    async def known(self, door: Door) -> None:
        """Returns when the door takes this campaign's events, and has none in its spool."""
        await eventually(lambda: self.send(door, "known"), lambda answer: answer[0] == 202, within=30)
        await drained(door)


@pytest_asyncio.fixture(loop_scope="session")
async def sender(kafka: str) -> AsyncIterator[Sender]:
    async with publishing(kafka) as publisher:
        yield Sender(publisher, await publisher.campaign(), await publisher.key())


async def spool_fills(door: Door, sender: Sender) -> None:
    """Sends until the door has noticed that Kafka is frozen: the first event waits for the deadline."""
    assert (await sender.send(door, "first"))[0] == 202
    assert await door.metric(SPOOLED) > 0


async def drained(door: Door) -> None:
    await eventually(lambda: door.metric(SPOOLED), lambda held: held == 0, within=DRAINED_WITHIN_S)


async def ready(door: Door) -> tuple[int, str]:
    async with door.http.get(f"{door.url}/ready") as response:
        return response.status, msgspec.json.decode(await response.read())["status"]


async def log_of(kafka: str, sender: Sender) -> list[Line]:
    return await read_log(kafka, sender.organization)


async def test_while_kafka_is_frozen_the_spool_promises_and_afterwards_all_is_in_the_log_in_order(
    engines: RunningStack, kafka: str, tmp_path: Path, sender: Sender
) -> None:
    async with running_door(kafka, tmp_path) as door:
        await sender.known(door)
        drained_before = await door.metric(DRAINED)
        with frozen([broker(engines)]):
            status, _, seconds = await sender.send(door, "first")
            assert status == 202
            assert seconds < CLIENTS_GIVE_UP_S
            started = time.monotonic()
            for number in range(40):
                assert (await sender.send(door, f"later-{number}"))[0] == 202
            assert time.monotonic() - started < 40 * DEADLINE_S / 2, "nobody waits for the deadline any more"
            assert await ready(door) == (200, "degraded")
            assert await door.metric(SPOOLED) == 41
            assert await door.metric("flightline_ingest_spool_bytes") > 0
            assert await door.metric("flightline_ingest_spool_oldest_seconds") > 0
            assert await door.metric("flightline_ingest_circuit_open") == 1
            thawed_at = now_ms()
        await drained(door)
        assert await ready(door) == (200, "ready")
        assert (await sender.send(door, "afterwards"))[0] == 202
        assert await door.metric(SPOOLED) == 0
        assert await door.metric(DRAINED) == drained_before + 41
    lines = await log_of(kafka, sender)
    assert {line.event.event_id for line in lines} == set(sender.promised)
    for partition in {line.partition for line in lines}:
        spooled = [
            int(line.event.event_id.removeprefix("later-"))
            for line in lines
            if line.partition == partition and line.event.event_id.startswith("later-")
        ]
        assert spooled == sorted(set(spooled)), "in order, and once: nothing failed in between"
    assert all(
        line.event.received_at <= thawed_at for line in lines if line.event.event_id.startswith("later-")
    )


async def test_a_door_that_starts_while_kafka_is_away_promises_and_finds_the_partitions_later(
    engines: RunningStack, kafka: str, tmp_path: Path, sender: Sender
) -> None:
    async with running_door(kafka, tmp_path) as door:
        await sender.known(door)
        assert door.stop() == 0
    with frozen([broker(engines)]):
        async with running_door(kafka, tmp_path, ready=False) as door:
            assert await ready(door) == (200, "degraded")
            assert (await sender.send(door, *(f"blind-{number}" for number in range(300))))[0] == 202
            door.process.kill()
    async with running_door(kafka, tmp_path) as door:
        await drained(door)
    lines = await log_of(kafka, sender)
    assert {line.event.event_id for line in lines} == set(sender.promised)
    for line in lines:
        assert line.partition == partition_of(sender.organization, line.event.event_id, 4)


async def test_the_spool_of_a_door_that_was_killed_is_adopted_by_another(
    engines: RunningStack, kafka: str, tmp_path: Path, sender: Sender
) -> None:
    async with running_door(kafka, tmp_path) as killed, running_door(kafka, tmp_path) as heir:
        await sender.known(killed)
        await sender.known(heir)
        with frozen([broker(engines)]):
            await spool_fills(killed, sender)
            await spool_fills(heir, sender)
            for number in range(20):
                assert (await sender.send(killed, f"orphan-{number}"))[0] == 202
            killed.process.kill()
            killed.process.wait(10)
        await eventually(
            lambda: heir.metric("flightline_ingest_spools_adopted_total"),
            lambda adopted: adopted == 1,
            within=DRAINED_WITHIN_S,
        )

        async def orphan_ids() -> set[str]:
            return {line.event.event_id for line in await log_of(kafka, sender)}

        await eventually(orphan_ids, lambda ids: ids >= set(sender.promised), within=DRAINED_WITHIN_S)
        spools = tmp_path / "spool"
        await eventually(
            lambda: asyncio.to_thread(lambda: len(list(spools.glob("*.sqlite")))),
            lambda files: files == 1,
            within=DRAINED_WITHIN_S,
        )


async def test_a_full_spool_refuses_new_events_and_keeps_what_it_has(
    engines: RunningStack, kafka: str, tmp_path: Path, sender: Sender
) -> None:
    async with running_door(kafka, tmp_path, spool_mb="1") as door:
        await sender.known(door)
        with frozen([broker(engines)]):
            await spool_fills(door, sender)
            batches = 0
            while (answer := await sender.send(door, *batch_ids(batches), url=LONG_URL))[0] == 202:
                batches += 1
                assert batches < 20, "1 MiB is full long before"
            assert answer[:2] == (503, "5")
            assert batches > 2
            assert await door.metric('flightline_ingest_spool_refused_total{reason="full"}') > 0
            assert await door.metric("flightline_ingest_spool_bytes") <= 1024 * 1024
            assert await door.status("/health") == 200
            assert await ready(door) == (200, "degraded")
        await drained(door)
        await sender.known(door)
    assert {line.event.event_id for line in await log_of(kafka, sender)} >= set(sender.promised)


LONG_URL = "https://example.test/" + "x" * 1_000


def batch_ids(batch: int) -> list[str]:
    """Of a batch of about 130 KB, with LONG_URL."""
    return [f"batch-{batch}-{number}" for number in range(100)]


async def test_a_full_disk_refuses_new_events_until_there_is_room(
    engines: RunningStack, kafka: str, tmp_path: Path, sender: Sender
) -> None:
    async with running_door(kafka, tmp_path) as door:
        await sender.known(door)
        with frozen([broker(engines)]):
            await spool_fills(door, sender)
            with full_disk(door.process.pid, 512 * 1024):
                batches = 0
                while (answer := await sender.send(door, *batch_ids(batches), url=LONG_URL))[0] == 202:
                    batches += 1
                    assert batches < 20, "512 KiB are full long before"
                assert answer[:2] == (503, "5")
                assert await door.status("/health") == 200
                assert await ready(door) == (200, "degraded")
                assert await door.metric("flightline_ingest_spool_usable") == 0
            await eventually(
                lambda: sender.send(door, "room again"), lambda answer: answer[0] == 202, within=30
            )
        await drained(door)
    assert {line.event.event_id for line in await log_of(kafka, sender)} >= set(sender.promised)


async def test_a_disk_without_a_byte_left_refuses_new_events_and_loses_none(
    engines: RunningStack, kafka: str, tmp_path: Path, sender: Sender
) -> None:
    with small_disk(tmp_path, "2m"):
        async with running_door(kafka, tmp_path) as door:
            await sender.known(door)
            with frozen([broker(engines)]):
                await spool_fills(door, sender)
                batches = 0
                while (answer := await sender.send(door, *batch_ids(batches), url=LONG_URL))[0] == 202:
                    batches += 1
                    assert batches < 40, "2 MiB are full long before"
                assert answer[:2] == (503, "5")
                assert await door.status("/health") == 200
            await drained(door)
            await sender.known(door)
            assert door.stop() == 0
    assert {line.event.event_id for line in await log_of(kafka, sender)} >= set(sender.promised)


async def test_what_a_full_disk_holds_reaches_kafka_although_nothing_can_be_deleted(
    engines: RunningStack, kafka: str, tmp_path: Path, sender: Sender
) -> None:
    async with running_door(kafka, tmp_path) as door:
        await sender.known(door)
        with frozen([broker(engines)]):
            await spool_fills(door, sender)
            for number in range(3):
                assert (await sender.send(door, f"held-{number}"))[0] == 202
        with full_disk(door.process.pid, 1):
            await drained(door)
            assert await door.status("/health") == 200
    assert {line.event.event_id for line in await log_of(kafka, sender)} >= set(sender.promised)


async def test_a_spool_that_cannot_be_opened_costs_nothing_while_kafka_answers_and_is_tried_again(
    engines: RunningStack, kafka: str, tmp_path: Path, sender: Sender
) -> None:
    obstacle = tmp_path / "spool"
    obstacle.write_text("not a folder")
    async with running_door(kafka, tmp_path) as door:
        await sender.known(door)
        assert await ready(door) == (200, "degraded")
        with frozen([broker(engines)]):
            for number in range(2):
                status, retry_after, _ = await sender.send(door, f"refused-{number}")
                assert (status, retry_after) == (503, "5")
            assert await door.status("/health") == 200
            obstacle.unlink()
            await eventually(lambda: sender.send(door, "mended"), lambda answer: answer[0] == 202, within=30)
        await drained(door)
    assert {line.event.event_id for line in await log_of(kafka, sender)} >= set(sender.promised)


async def test_without_a_spool_the_door_finds_by_itself_that_kafka_is_back(
    engines: RunningStack, kafka: str, tmp_path: Path, sender: Sender
) -> None:
    (tmp_path / "spool").write_text("not a folder")
    async with running_door(kafka, tmp_path) as door:
        await sender.known(door)
        with frozen([broker(engines)]):
            assert (await sender.send(door, "refused"))[0] == 503
        await eventually(lambda: sender.send(door, "back"), lambda answer: answer[0] == 202, within=30)
    assert {line.event.event_id for line in await log_of(kafka, sender)} >= set(sender.promised)


async def test_a_spool_file_that_is_rubbish_is_put_aside_and_the_door_goes_on(
    engines: RunningStack, kafka: str, tmp_path: Path, sender: Sender
) -> None:
    spools = tmp_path / "spool"
    spools.mkdir()
    (spools / "0.sqlite").write_bytes(b"rubbish" * 1_000)
    async with running_door(kafka, tmp_path) as door:
        await sender.known(door)
        assert await door.metric("flightline_ingest_spool_corrupt_total") == 1
        (aside,) = spools.glob("0.corrupt-*.sqlite")
        assert aside.read_bytes() == b"rubbish" * 1_000
        with frozen([broker(engines)]):
            await spool_fills(door, sender)
        await drained(door)
    assert {line.event.event_id for line in await log_of(kafka, sender)} >= set(sender.promised)


async def test_a_damaged_record_is_kept_aside_and_its_neighbours_reach_the_log(
    engines: RunningStack, kafka: str, tmp_path: Path, sender: Sender
) -> None:
    async with running_door(kafka, tmp_path) as door:
        await sender.known(door)
        with frozen([broker(engines)]):
            await spool_fills(door, sender)
            for number in range(3):
                assert (await sender.send(door, f"record-{number}"))[0] == 202
            door.process.kill()
            door.process.wait(10)
            damage(tmp_path / "spool" / "0.sqlite", b"record-1")
    sender.promised.remove("record-1")
    async with running_door(kafka, tmp_path) as door:
        await drained(door)
        assert await door.metric("flightline_ingest_spool_corrupt_total") == 1
        assert await door.metric("flightline_ingest_unexpected_errors_total") == 0
    logged = {line.event.event_id for line in await log_of(kafka, sender)}
    assert logged >= set(sender.promised)
    assert "record-1" not in logged


def damage(path: Path, text: bytes) -> None:
    """Changes one byte of the record that contains the text."""
    connection = sqlite3.connect(path)
    for record_id, lines in connection.execute("SELECT id, lines FROM records").fetchall():
        if text in lines:
            spoiled = lines.replace(b'"cost"', b'"c0st"').replace(b"CLICK", b"CLICC")
            assert spoiled != lines
            connection.execute("UPDATE records SET lines = ? WHERE id = ?", (spoiled, record_id))
    connection.commit()
    connection.close()


async def test_after_an_outage_the_door_obeys_its_campaigns_again(
    engines: RunningStack, kafka: str, tmp_path: Path
) -> None:
    async with publishing(kafka) as publisher, running_door(kafka, tmp_path) as door:
        sender = Sender(publisher, await publisher.campaign(), await publisher.key())
        await sender.known(door)
        with frozen([broker(engines)]):
            await spool_fills(door, sender)
        await publisher.change(sender.campaign, status=CampaignStatus.PAUSED)
        await eventually(
            lambda: door.send(sender.event("paused"), sender.key),
            lambda answer: answer[1]["results"][0].get("reason") == "PAUSED",
            within=30,
        )
