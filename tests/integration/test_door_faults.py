"""The door when Kafka is away, when it starts without it, and when it stops."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import pytest

from ingest.snapshot import FILE_NAME
from tests.integration.broken import broker
from tests.integration.door import eventually, free_port, publishing, read_log, running_door
from tests.processes import frozen
from tests.running import RunningStack

STOPS_WITHIN_S = 10.0


async def test_a_door_that_starts_without_kafka_decides_by_its_snapshot(
    engines: RunningStack, kafka: str, tmp_path: Path
) -> None:
    async with publishing(kafka) as publisher:
        campaign, key = await publisher.campaign(), await publisher.key()
        async with running_door(kafka, tmp_path) as first:
            assert first.stop() == 0
        assert (tmp_path / FILE_NAME).exists()
        with frozen([broker(engines)]):
            async with running_door(kafka, tmp_path, ready=False) as door:
                assert await door.status("/ready") == 200
                assert await door.status(f"/v1/serve?campaigns={campaign.campaign_id}&key={key}") == 200
                assert await door.status(f"/v1/serve?campaigns={campaign.campaign_id}&key=unknown") == 503
                event = {"campaignId": campaign.campaign_id, "type": "CLICK"}
                assert (await door.send(event, key))[0] == 202, "promised by the spool"
            async with running_door(kafka, tmp_path / "none", ready=False) as blind:
                assert await blind.status("/ready") == 503
                assert (await blind.send(event, key))[0] == 503, "never unknown"


async def test_a_spoiled_snapshot_is_no_snapshot(kafka: str, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"\x93rubbish")
    async with running_door(kafka, tmp_path) as door:
        assert await door.status("/ready") == 200


async def test_a_door_that_is_told_to_stop_answers_what_it_has_taken(kafka: str, tmp_path: Path) -> None:
    async with publishing(kafka) as publisher, running_door(kafka, tmp_path, linger_ms="300") as door:
        campaign, key = await publisher.campaign(), await publisher.key()
        event = {"campaignId": campaign.campaign_id, "type": "CLICK"}
        await eventually(lambda: door.send(event, key), lambda answer: answer[0] == 202)
        sending = [
            asyncio.create_task(door.send({**event, "eventId": f"last-{number}"}, key))
            for number in range(20)
        ]
        await eventually(
            lambda: door.metric("flightline_ingest_pending_bytes"), lambda held: held > 200 * len(sending)
        )
        stopping = asyncio.create_task(asyncio.to_thread(door.stop))
        answers = await asyncio.gather(*sending, return_exceptions=True)
        assert await stopping == 0
        answered = [answer for answer in answers if not isinstance(answer, aiohttp.ClientError)]
        promised = {body["results"][0]["eventId"] for status, body in answered if status == 202}
        logged = {line.event.event_id for line in await read_log(kafka, publisher.organization)}
        assert promised <= logged
        assert promised


async def test_a_door_stops_in_time_while_kafka_is_away(
    engines: RunningStack, kafka: str, tmp_path: Path
) -> None:
    async with publishing(kafka) as publisher, running_door(kafka, tmp_path) as door:
        campaign, key = await publisher.campaign(), await publisher.key()
        event = {"campaignId": campaign.campaign_id, "type": "CLICK"}
        await eventually(lambda: door.send(event, key), lambda answer: answer[0] == 202)
        with frozen([broker(engines)]):
            unsure = asyncio.create_task(door.send({**event, "eventId": "unsure"}, key))
            await eventually(lambda: door.metric("flightline_ingest_pending_bytes"), bool)
            started = time.monotonic()
            assert await asyncio.to_thread(door.stop) == 0
            assert time.monotonic() - started < STOPS_WITHIN_S
            assert (await unsure)[0] == 202, "what was taken is answered, by the spool"
        async with running_door(kafka, tmp_path) as next_door:
            await eventually(
                lambda: next_door.metric("flightline_ingest_spool_events"), lambda held: not held, within=30
            )
        logged = {line.event.event_id for line in await read_log(kafka, publisher.organization)}
        assert "unsure" in logged


async def test_clients_that_leave_before_the_answer_disturb_nobody(kafka: str, tmp_path: Path) -> None:
    async with publishing(kafka) as publisher, running_door(kafka, tmp_path, linger_ms="200") as door:
        campaign, key = await publisher.campaign(), await publisher.key()
        event = {"campaignId": campaign.campaign_id, "type": "CLICK"}
        await eventually(lambda: door.send(event, key), lambda answer: answer[0] == 202)
        leaving = [asyncio.create_task(door.send(event, key)) for _ in range(20)]
        await eventually(lambda: door.metric("flightline_ingest_pending_bytes"), bool)
        staying = asyncio.create_task(door.send({**event, "eventId": "staying"}, key))
        for task in leaving:
            task.cancel()
        assert (await staying)[0] == 202
        assert await door.metric("flightline_ingest_unexpected_errors_total") == 0
        assert "staying" in {line.event.event_id for line in await read_log(kafka, publisher.organization)}


async def test_several_doors_share_a_port(kafka: str, tmp_path: Path) -> None:
    port = free_port()
    async with (
        running_door(kafka, tmp_path, port=port) as one,
        running_door(kafka, tmp_path, port=port) as two,
    ):
        assert one.process.poll() is None
        assert two.process.poll() is None
        assert one.stop() == 0
        # Until now either of them may have answered: the second one may still be starting.
        await eventually(lambda: two.status("/health"), lambda status: status == 200, within=30)
        assert two.process.poll() is None


def start_with(**settings: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLIGHTLINE_")}
    environment |= {f"FLIGHTLINE_{name.upper()}": value for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "ingest"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "FLIGHTLINE_BIND"),
        ({"bind": "127.0.0.1:1", "kafka": "k:1"}, "FLIGHTLINE_STATE"),
        ({"bind": "nowhere", "kafka": "k:1", "state": "s"}, "FLIGHTLINE_BIND"),
    ],
)
def test_a_missing_or_wrong_setting_stops_the_door_with_one_sentence(
    settings: dict[str, str], named: str
) -> None:
    ended = start_with(**settings)
    assert ended.returncode == 1
    assert named in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_port_that_is_taken_stops_the_door(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = start_with(bind=bind, kafka="127.0.0.1:1", state=str(tmp_path))
        assert ended.returncode != 0
        assert "FLIGHTLINE_BIND" in ended.stderr
