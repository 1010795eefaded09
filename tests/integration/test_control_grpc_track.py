"""Events through gRPC, a real door behind it."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from schemas.flightline.v1 import campaigns_pb2 as pb
from schemas.ids import new_id
from tests.integration.control import ControlApi, running_control_api
from tests.integration.door import Door, running_door
from tests.integration.test_control_grpc import Client, refused
from tests.integration.test_control_track import logged
from tests.running import free_port


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def door(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    async with running_door(kafka, tmp_path_factory.mktemp("door")) as running:
        yield running


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(
    kafka: str, postgres_dsn: str, door: Door, port: int, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlApi]:
    env = {"FLIGHTLINE_INGEST_URL": door.url, "FLIGHTLINE_GRPC_BIND": f"127.0.0.1:{port}"}
    folder = tmp_path_factory.mktemp("control")
    async with running_control_api(kafka, postgres_dsn, folder, **env) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def call(api: ControlApi, port: int) -> AsyncIterator[Client]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Client(channel, api.made.admin_token)


def event(campaign_id: str, **fields: Any) -> pb.TrackEventRequest:
    told: dict[str, Any] = {"type": pb.EVENT_TYPE_CONVERSION} | fields
    return pb.TrackEventRequest(id=campaign_id, event=pb.TrackedEvent(**told))


async def test_an_event_is_in_the_log_when_it_is_answered(api: ControlApi, call: Client) -> None:
    campaign = (await api.active())["id"]
    data = Struct()
    data.update({"sku": "A1", "gift": True})
    revenue = pb.EventAmount(amount="49.900001", currency="EUR")
    asked = event(campaign, event_id="a-1", channel=pb.CHANNEL_WEB, revenue=revenue, data=data)
    answer = await call("TrackEvent", asked)
    assert (answer.event_id, answer.status, answer.serve) == ("a-1", "accepted", True)
    assert not answer.HasField("reason")
    [found] = await logged(api, campaign)
    assert (found.event_id, found.type, found.revenue) == ("a-1", "CONVERSION", 49_900_001)


async def test_a_repeat_with_a_key_counts_once_and_a_draft_is_unbilled(api: ControlApi, call: Client) -> None:
    campaign, key = (await api.create())["id"], ("idempotency-key", new_id())
    first, again = [await call("TrackEvent", event(campaign), key) for _ in range(2)]
    assert first == again
    assert (first.status, first.reason, first.serve) == ("unbilled", "DRAFT", False)
    assert {found.event_id for found in await logged(api, campaign)} == {first.event_id}


async def test_what_the_door_refuses_and_what_is_no_event_is_told(api: ControlApi, call: Client) -> None:
    campaign = (await api.active())["id"]
    old = event(campaign, occurred_at=Timestamp(seconds=1_600_000_000))
    code, info, _ = await refused(call("TrackEvent", old))
    assert (code, info.reason, info.metadata["reason"]) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "EVENT_REJECTED",
        "TOO_OLD",
    )
    nan = Struct()
    nan.update({"x": float("nan")})
    wrong = event(campaign, type=pb.EVENT_TYPE_UNSPECIFIED, country="Germany", data=nan)
    _, _, fields = await refused(call("TrackEvent", wrong))
    assert set(fields) == {"type", "country", "data"}


async def test_another_organizations_campaign_is_not_found(api: ControlApi, call: Client) -> None:
    campaign = (await api.active())["id"]
    stranger = Client(call.channel, await api.other_organization())
    assert (await refused(stranger("TrackEvent", event(campaign))))[0] == grpc.StatusCode.NOT_FOUND
    assert await logged(api, campaign) == []
