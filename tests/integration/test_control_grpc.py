"""The control API over gRPC, on the real Postgres and Kafka: campaigns, rules and errors as over HTTP."""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from control_api.auth.tokens import Claims, Tokens
from schemas.flightline.v1 import campaigns_pb2 as pb
from schemas.ids import new_id
from tests.integration.access import make_key, token_of
from tests.integration.certificates import certificate
from tests.integration.control import SECRET, ControlApi, body, eventually, now, running_control_api
from tests.running import free_port

SERVICE = pb.DESCRIPTOR.services_by_name["CampaignService"]
_WITHIN = 30.0


class Client:
    """A channel, and the way to call a method by its name."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self.channel = channel
        self.token = token
        self.answered: dict[str, str] = {}

    async def raw(
        self, method: str, request: bytes, metadata: Sequence[tuple[str, str]] = (), within: float = 20
    ) -> bytes:
        """Bytes as they are."""
        call = self.channel.unary_unary(f"/{SERVICE.full_name}/{method}")(
            request, metadata=tuple(metadata), timeout=within
        )
        answer: bytes = await call
        self.answered = {name: str(value) for name, value in await call.initial_metadata()}
        return answer

    async def __call__(self, method: str, request: Any = None, *more: tuple[str, str], **options: Any) -> Any:
        """A method with a message, as the admin of the organization."""
        found = SERVICE.methods_by_name[method]
        sent = (request or GetMessageClass(found.input_type)()).SerializeToString()
        bearer = ("authorization", f"Bearer {self.token}")
        return GetMessageClass(found.output_type).FromString(
            await self.raw(method, sent, (bearer, *more), **options)
        )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def port() -> int:
    return free_port()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(
    kafka: str, postgres_dsn: str, port: int, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlApi]:
    env = {"FLIGHTLINE_GRPC_BIND": f"127.0.0.1:{port}"}
    async with running_control_api(kafka, postgres_dsn, tmp_path_factory.mktemp("grpc"), **env) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def call(api: ControlApi, port: int) -> AsyncIterator[Client]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Client(channel, api.made.admin_token)


def moment(at: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(at)
    return made


def content(**changes: Any) -> pb.CampaignContent:
    told: dict[str, Any] = {
        "name": f"Summer Sale {new_id()}",
        "description": "Summer promotion campaign with 20% discount",
        "type": pb.CAMPAIGN_TYPE_PROMOTION,
        "targeting_rules": ["rule-123", "rule-456"],
        "start_date": moment(now() + timedelta(days=1)),
        "end_date": moment(now() + timedelta(days=30)),
        "budget": pb.Money(amount="10000.00", currency="EUR"),
        "settings": pb.Settings(
            channels=[pb.CHANNEL_EMAIL, pb.CHANNEL_WEB],
            frequency=pb.FREQUENCY_WEEKLY,
            max_impressions=100_000,
            pricing=pb.Pricing(model=pb.PRICING_MODEL_CPM, price=pb.Money(amount="2.5", currency="EUR")),
        ),
    }
    return pb.CampaignContent(**(told | changes))


async def create(call: Client, **changes: Any) -> pb.Campaign:
    made: pb.Campaign = await call("CreateCampaign", pb.CreateCampaignRequest(campaign=content(**changes)))
    return made


async def refused(work: Any) -> tuple[grpc.StatusCode, error_details_pb2.ErrorInfo, dict[str, str]]:
    """The code of a call that is refused, its ErrorInfo, and its wrong fields with what is said of them."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await work
    status = rpc_status.from_call(caught.value)
    assert status is not None, caught.value
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for packed in status.details:
        packed.Unpack(info) or packed.Unpack(bad)
    return caught.value.code(), info, {one.field: one.description for one in bad.field_violations}


async def test_a_campaign_of_one_side_is_the_same_on_the_other(api: ControlApi, call: Client) -> None:
    made = await create(call)
    shown = await api.get(made.id)
    assert (shown["name"], shown["status"], shown["type"]) == (made.name, "DRAFT", "PROMOTION")
    assert made.status == pb.CAMPAIGN_STATUS_DRAFT
    assert Decimal(made.budget.amount) == Decimal(str(shown["budget"]["amount"])) == 10_000
    assert made.start_date.ToDatetime(UTC) == datetime.fromisoformat(shown["startDate"])
    assert made.settings.max_impressions == shown["settings"]["maxImpressions"] == 100_000
    assert await call("GetCampaign", pb.GetCampaignRequest(id=made.id)) == made
    theirs = await api.create()
    found = await call("GetCampaign", pb.GetCampaignRequest(id=theirs["id"]))
    assert (found.name, list(found.targeting_rules)) == (theirs["name"], theirs["targetingRules"])


async def test_a_whole_life(api: ControlApi, call: Client) -> None:
    made = await create(call)
    active = await call("ActivateCampaign", pb.ActivateCampaignRequest(id=made.id, start_now=True))
    assert (active.status, active.propagation) == (pb.CAMPAIGN_STATUS_ACTIVE, "published")
    code, info, _ = await refused(call("ActivateCampaign", pb.ActivateCampaignRequest(id=made.id)))
    assert (code, info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TRANSITION_NOT_ALLOWED")
    assert (info.metadata["currentStatus"], info.metadata["allowedTransitions"]) == ("ACTIVE", "pause,stop")
    paused = await call("PauseCampaign", pb.PauseCampaignRequest(id=made.id, justification="lunch"))
    assert paused.status == pb.CAMPAIGN_STATUS_PAUSED
    metrics = await call("GetCampaignMetrics", pb.GetCampaignMetricsRequest(id=made.id))
    assert (metrics.impressions, metrics.budget.limit.amount) == (0, "10000.00")
    code, _, wrong = await refused(call("StopCampaign", pb.StopCampaignRequest(id=made.id)))
    assert (code, set(wrong)) == (grpc.StatusCode.INVALID_ARGUMENT, {"justification"})
    stopped = await call("StopCampaign", pb.StopCampaignRequest(id=made.id, justification="done"))
    assert stopped.status == pb.CAMPAIGN_STATUS_CANCELLED
    rows = await api.sql("SELECT action FROM control.audit WHERE subject_id = $1 ORDER BY seq", made.id)
    kinds = ["created", "activated", "paused", "cancelled"]
    assert [row["action"] for row in rows] == [f"campaign.{kind}" for kind in kinds]


async def test_metrics_are_those_of_the_ledger(api: ControlApi, call: Client) -> None:
    made = await create(call)
    await api.spend(made.id, 1_234_567, impressions=3)
    metrics = await call("GetCampaignMetrics", pb.GetCampaignMetricsRequest(id=made.id))
    assert (metrics.impressions, metrics.cost.amount, metrics.cost.currency) == (3, "1.234567", "EUR")
    assert metrics.HasField("last_updated")
    assert not metrics.HasField("conversion_rate")


async def test_update_needs_the_version_that_was_read(call: Client) -> None:
    made = await create(call)
    asked = pb.UpdateCampaignRequest(id=made.id, campaign=content(name=f"other {made.name}"))
    code, info, _ = await refused(call("UpdateCampaign", asked))
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "PRECONDITION_REQUIRED")
    asked.version = 1
    changed = await call("UpdateCampaign", asked)
    assert (changed.name, changed.version) == (f"other {made.name}", 2)
    code, info, _ = await refused(call("UpdateCampaign", asked))
    assert (code, info.metadata["currentVersion"]) == (grpc.StatusCode.ABORTED, "2")
    gone = pb.DeleteCampaignRequest(id=made.id, version=1)
    assert (await refused(call("DeleteCampaign", gone)))[0] == grpc.StatusCode.ABORTED
    assert await call("DeleteCampaign", pb.DeleteCampaignRequest(id=made.id, version=2)) == Empty()
    code, info, _ = await refused(call("GetCampaign", pb.GetCampaignRequest(id=made.id)))
    assert (code, info.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


async def test_all_wrong_fields_are_named_at_once_those_of_the_rules_as_well(call: Client) -> None:
    asked = content(
        name="",
        type=77,
        budget=pb.Money(amount="-1", currency="EUR"),
        settings=pb.Settings(),
        targeting_rules=[],
    )
    code, info, wrong = await refused(call("CreateCampaign", pb.CreateCampaignRequest(campaign=asked)))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert info.reason == "VALIDATION"
    assert set(wrong) >= {"name", "type", "targeting_rules", "settings.channels"}
    _, _, wrong = await refused(call("CreateCampaign", pb.CreateCampaignRequest()))
    assert set(wrong) >= {"name", "type", "start_date"}
    nul = pb.CreateCampaignRequest(campaign=content(description="a\0b"))
    assert set((await refused(call("CreateCampaign", nul)))[2]) == {"description"}


async def test_a_name_that_is_taken_exists_already(call: Client) -> None:
    made = await create(call)
    code, info, wrong = await refused(create(call, name=made.name.upper()))
    assert (code, info.reason) == (grpc.StatusCode.ALREADY_EXISTS, "NAME_TAKEN")
    assert set(wrong) == {"name"}


async def test_lists_come_in_pages_with_filters(call: Client) -> None:
    tag = new_id()
    made = [await create(call, name=f"{tag} {number}") for number in range(5)]
    asked = pb.ListCampaignsRequest(
        limit=2,
        q=tag,
        sort="name",
        status=[pb.CAMPAIGN_STATUS_DRAFT, pb.CAMPAIGN_STATUS_ACTIVE],
        created_after=moment(now() - timedelta(minutes=5)),
        include_metrics=True,
    )
    seen = []
    while True:
        page = await call("ListCampaigns", asked)
        seen += page.items
        if not page.HasField("next_cursor"):
            break
        asked.cursor = page.next_cursor
    assert [one.id for one in seen] == [one.id for one in made]
    assert seen[0].HasField("metrics")
    none = await call("ListCampaigns", pb.ListCampaignsRequest(q=tag, type=[pb.CAMPAIGN_TYPE_COUPON]))
    assert not none.items
    bad = pb.ListCampaignsRequest(limit=5_000, sort="age", cursor="x", starts_after=Timestamp(seconds=10**15))
    code, _, wrong = await refused(call("ListCampaigns", bad))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert {"limit", "starts_after"} <= set(wrong)


async def test_who_is_nobody_or_may_not_is_refused(api: ControlApi, port: int) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for token in ("", "x", f"{api.made.admin_token}x"):
            code, info, _ = await refused(Client(channel, token)("GetCampaign"))
            assert (code, info.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHORIZED")
        code, _, _ = await refused(Client(channel, "").raw("GetCampaign", b""))
        assert code == grpc.StatusCode.UNAUTHENTICATED
        reader = Client(channel, await token_of(api, "viewer"))
        await reader("ListCampaigns")
        allowed = {"GetCampaign", "ListCampaigns", "GetCampaignMetrics", "StreamCampaignMetrics"}
        for method in set(SERVICE.methods_by_name) - allowed:
            code, info, _ = await refused(reader(method))
            assert (code, info.reason) == (grpc.StatusCode.PERMISSION_DENIED, "FORBIDDEN")


async def test_a_control_key_may_what_its_scopes_say(api: ControlApi, port: int) -> None:
    key = (await make_key(api, "campaigns:read"))["key"]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = Client(channel, "")
        await call.raw("ListCampaigns", b"", [("x-api-key", key)])
        code, _, _ = await refused(call.raw("CreateCampaign", b"", [("x-api-key", key)]))
        assert code == grpc.StatusCode.PERMISSION_DENIED
        code, _, _ = await refused(call.raw("ListCampaigns", b"", [("x-api-key", f"{key}x")]))
        assert code == grpc.StatusCode.UNAUTHENTICATED
        both = [("x-api-key", key), ("authorization", f"Bearer {api.made.admin_token}")]
        code, info, _ = await refused(call.raw("ListCampaigns", b"", both))
        assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")


async def test_who_calls_too_often_is_told_when_to_come_again(
    kafka: str, postgres_dsn: str, tmp_path: Path
) -> None:
    port = free_port()
    env = {"FLIGHTLINE_GRPC_BIND": f"127.0.0.1:{port}", "FLIGHTLINE_RATE_USER": "5/hour"}
    async with (
        running_control_api(kafka, postgres_dsn, tmp_path, **env) as api,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        call = Client(channel, api.made.admin_token)
        for _ in range(5):
            await call("ListCampaigns")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call("ListCampaigns")
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        retry = error_details_pb2.RetryInfo()
        status = rpc_status.from_call(caught.value)
        assert any(packed.Unpack(retry) for packed in status.details)
        assert retry.retry_delay.seconds > 1


async def test_another_organizations_campaigns_are_not_found(
    api: ControlApi, call: Client, port: int
) -> None:
    made = await create(call)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        other = Client(channel, await api.other_organization())
        asked: dict[str, Any] = {
            "GetCampaign": pb.GetCampaignRequest(id=made.id),
            "UpdateCampaign": pb.UpdateCampaignRequest(id=made.id, version=1, campaign=content()),
            "DeleteCampaign": pb.DeleteCampaignRequest(id=made.id),
            "ActivateCampaign": pb.ActivateCampaignRequest(id=made.id),
            "PauseCampaign": pb.PauseCampaignRequest(id=made.id),
            "StopCampaign": pb.StopCampaignRequest(id=made.id, justification="x"),
            "DuplicateCampaign": pb.DuplicateCampaignRequest(id=made.id),
            "GetCampaignMetrics": pb.GetCampaignMetricsRequest(id=made.id),
            "StreamCampaignMetrics": pb.StreamCampaignMetricsRequest(id=made.id),
        }
        # TrackEvent has a test of its own: it needs a door.
        assert set(asked) == set(SERVICE.methods_by_name) - {"CreateCampaign", "ListCampaigns", "TrackEvent"}
        for method, request in asked.items():
            assert (await refused(other(method, request)))[0] == grpc.StatusCode.NOT_FOUND
        page = await other("ListCampaigns", pb.ListCampaignsRequest(q=made.name))
        assert not page.items
    assert await call("GetCampaign", pb.GetCampaignRequest(id=made.id)) == made


async def test_a_copy_has_a_name_of_its_own_and_no_metrics(api: ControlApi, call: Client) -> None:
    made = await create(call)
    await api.spend(made.id, 5_000, impressions=2)
    start = moment(now() + timedelta(days=90))
    request = pb.DuplicateCampaignRequest(id=made.id, start_date=start)
    key = ("idempotency-key", new_id())
    copy, again = [await call("DuplicateCampaign", request, key) for _ in range(2)]
    assert copy == again
    assert (copy.name, copy.status) == (f"{made.name} (copy)", pb.CAMPAIGN_STATUS_DRAFT)
    assert (copy.start_date.seconds, copy.metrics.impressions) == (start.seconds, 0)
    assert (await call("DuplicateCampaign", request)).name == f"{made.name} (copy 2)"
    beyond = pb.DuplicateCampaignRequest(id=made.id, start_date=Timestamp(seconds=10**15))
    assert set((await refused(call("DuplicateCampaign", beyond)))[2]) == {"start_date"}


async def test_a_stream_tells_of_counts_and_of_the_status_and_goes_on_where_it_was_left(
    api: ControlApi, call: Client
) -> None:
    made = await create(call)
    bearer = (("authorization", f"Bearer {call.token}"),)
    follow = call.channel.unary_stream(
        f"/{SERVICE.full_name}/StreamCampaignMetrics",
        request_serializer=pb.StreamCampaignMetricsRequest.SerializeToString,
        response_deserializer=pb.MetricsUpdate.FromString,
    )
    stream = follow(pb.StreamCampaignMetricsRequest(id=made.id), metadata=bearer, timeout=60)
    updates = stream.__aiter__()
    first = await anext(updates)
    assert (first.metrics.impressions, first.status.status) == (0, pb.CAMPAIGN_STATUS_DRAFT)
    await api.spend(made.id, 1_500_000, impressions=7)
    second = await anext(updates)
    assert (second.metrics.impressions, second.metrics.cost.amount) == (7, "1.50")
    assert not second.HasField("status")
    await call("ActivateCampaign", pb.ActivateCampaignRequest(id=made.id, start_now=True))
    update = await anext(updates)
    while not update.HasField("status"):
        update = await anext(updates)
    assert update.status.status == pb.CAMPAIGN_STATUS_ACTIVE
    stream.cancel()
    await call("PauseCampaign", pb.PauseCampaignRequest(id=made.id))
    left = pb.StreamCampaignMetricsRequest(id=made.id, after=update.position)
    stream = follow(left, metadata=bearer, timeout=60)
    missed = await anext(stream.__aiter__())
    assert (missed.HasField("metrics"), missed.status.status) == (False, pb.CAMPAIGN_STATUS_PAUSED)
    stream.cancel()


async def test_a_stream_ends_with_its_campaign_its_token_or_the_process(
    kafka: str, postgres_dsn: str, tmp_path: Path
) -> None:
    port = free_port()
    env = {"FLIGHTLINE_GRPC_BIND": f"127.0.0.1:{port}"}
    async with (
        running_control_api(kafka, postgres_dsn, tmp_path, **env) as api,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        call = Client(channel, api.made.admin_token)
        claims = Claims(api.made.admin_id, api.made.organization_id, ("admin",))
        soon = Tokens(SECRET).mint(claims, now=now(), lifetime=timedelta(seconds=3))
        gone, over, cut = [await create(call) for _ in range(3)]
        ends = [
            asyncio.create_task(end_of(channel, made.id, token))
            for made, token in ((gone, call.token), (over, soon), (cut, call.token))
        ]
        await call("DeleteCampaign", pb.DeleteCampaignRequest(id=gone.id))
        assert await ends[0] == grpc.StatusCode.NOT_FOUND
        assert await ends[1] == grpc.StatusCode.UNAUTHENTICATED
        api.terminate()
        assert await ends[2] == grpc.StatusCode.UNAVAILABLE
        assert await asyncio.to_thread(api.wait, 20) == 0


async def end_of(channel: grpc.aio.Channel, campaign_id: str, token: str) -> grpc.StatusCode:
    """How a stream ends."""
    follow = channel.unary_stream(f"/{SERVICE.full_name}/StreamCampaignMetrics")
    asked = pb.StreamCampaignMetricsRequest(id=campaign_id).SerializeToString()
    stream = follow(asked, metadata=(("authorization", f"Bearer {token}"),), timeout=60)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stream:
            pass
    return caught.value.code()


async def test_a_call_that_is_sent_again_is_carried_out_once(api: ControlApi, call: Client) -> None:
    request, key = pb.CreateCampaignRequest(campaign=content()), ("idempotency-key", new_id())
    several = await asyncio.gather(*(call("CreateCampaign", request, key) for _ in range(5)))
    assert len({one.id for one in several}) == 1
    taken = ("idempotency-key", new_id())
    first = await refused(call("CreateCampaign", request, taken))
    assert first[0] == grpc.StatusCode.ALREADY_EXISTS
    await call("DeleteCampaign", pb.DeleteCampaignRequest(id=several[0].id))
    again = await refused(call("CreateCampaign", request, taken))
    assert again == first
    other = pb.CreateCampaignRequest(campaign=content())
    assert (await refused(call("CreateCampaign", other, key)))[1].reason == "IDEMPOTENCY_KEY_REUSED"
    over_http = await api.call("POST", "/campaigns", body(), headers={"Idempotency-Key": key[1]})
    assert (over_http.status, over_http.body["type"]) == (422, "/problems/idempotency-key-reused")
    assert (await refused(call("CreateCampaign", other, ("idempotency-key", "a b"))))[1].reason == (
        "MALFORMED_REQUEST"
    )


async def test_a_request_keeps_its_id_and_its_trace(api: ControlApi, call: Client) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    told = (("x-request-id", "mine-1"), ("traceparent", f"00-{trace}-00f067aa0ba902b7-01"))
    made = await call("CreateCampaign", pb.CreateCampaignRequest(campaign=content()), *told)
    assert call.answered["x-request-id"] == "mine-1"
    assert call.answered["traceparent"].split("-")[1] == trace
    row = (await api.sql("SELECT correlation_id, address FROM control.audit WHERE subject_id = $1", made.id))[
        0
    ]
    assert row["correlation_id"] == "mine-1"
    assert row["address"]
    assert "127.0.0.1" not in row["address"]
    _, info, _ = await refused(call("GetCampaign", pb.GetCampaignRequest(id="x"), *told))
    assert info.metadata["requestId"] == "mine-1"


async def test_what_is_no_message_is_a_clear_refusal_and_never_a_crash(call: Client) -> None:
    chance = random.Random(7)  # noqa: S311 - cases, not secrets
    bearer = ("authorization", f"Bearer {call.token}")
    codes = set()
    for method in SERVICE.methods_by_name:
        for _ in range(60):
            noise = chance.randbytes(chance.randrange(1, 200))
            try:
                await call.raw(method, noise, [bearer])
            except grpc.aio.AioRpcError as error:
                codes.add(error.code())
        assert (await refused(call.raw(method, b"\x0a\xff", [bearer])))[0] == grpc.StatusCode.INVALID_ARGUMENT
    assert grpc.StatusCode.INVALID_ARGUMENT in codes
    # Noise that happens to be a message names no campaign.
    assert codes <= {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}


async def test_a_mutated_message_is_taken_or_refused_clearly(call: Client) -> None:
    chance = random.Random(11)  # noqa: S311 - cases, not secrets
    bearer = ("authorization", f"Bearer {call.token}")
    codes = set()
    for _ in range(150):
        sent = bytearray(pb.CreateCampaignRequest(campaign=content()).SerializeToString())
        for _ in range(chance.randrange(1, 6)):
            sent[chance.randrange(len(sent))] = chance.randrange(256)
        try:
            await call.raw("CreateCampaign", bytes(sent), [bearer])
        except grpc.aio.AioRpcError as error:
            codes.add(error.code())
    assert codes == {grpc.StatusCode.INVALID_ARGUMENT}


async def test_a_message_that_is_too_large_is_refused(call: Client) -> None:
    asked = pb.CreateCampaignRequest(campaign=content(description="x" * (2 << 20)))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call("CreateCampaign", asked)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_deadline_that_is_over_ends_the_call(call: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call("ListCampaigns", within=0.000_1)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_an_unknown_method_is_unimplemented(call: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.raw("Explode", b"")
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_tools_find_the_service_by_reflection(call: Client) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(call.channel)
    asked = reflection_pb2.ServerReflectionRequest

    async def requests() -> AsyncIterator[Any]:
        yield asked(list_services="")
        yield asked(file_containing_symbol=SERVICE.full_name)

    answers = [answer async for answer in stub.ServerReflectionInfo(requests())]
    names = {service.name for service in answers[0].list_services_response.service}
    assert names >= {SERVICE.full_name, "grpc.health.v1.Health"}
    assert answers[1].file_descriptor_response.file_descriptor_proto[0]


async def test_calls_are_in_the_metrics(api: ControlApi, call: Client) -> None:
    await call("ListCampaigns")
    text = (await api.page("/metrics")).body
    path = f"/{SERVICE.full_name}/ListCampaigns"
    assert f'control_api_requests_total{{method="GRPC",route="{path}",status="OK"}}' in text


async def health(channel: grpc.aio.Channel, service: str = "") -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
    return int(answer.status)


async def test_health_follows_the_life_of_the_process_and_calls_under_way_are_answered(
    kafka: str, postgres_dsn: str, tmp_path: Path
) -> None:
    port, kinds = free_port(), health_pb2.HealthCheckResponse
    env = {"FLIGHTLINE_GRPC_BIND": f"127.0.0.1:{port}", "FLIGHTLINE_DRAIN_MS": "2000"}
    async with (
        running_control_api(kafka, postgres_dsn, tmp_path, **env) as api,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        call = Client(channel, api.made.admin_token)
        for service in ("", SERVICE.full_name):

            async def serves(service: str = service) -> bool:
                return await health(channel, service) == kinds.SERVING

            await eventually(serves, _WITHIN)
        api.terminate()

        async def stops() -> bool:
            return await health(channel) == kinds.NOT_SERVING

        await eventually(stops, _WITHIN)
        made = await create(call)
        assert made.id
        assert api.wait(20) == 0


async def test_tls_and_certificates_of_clients(kafka: str, postgres_dsn: str, tmp_path: Path) -> None:
    port, (cert, key) = free_port(), certificate(tmp_path)
    env = {
        "FLIGHTLINE_GRPC_BIND": f"127.0.0.1:{port}",
        "FLIGHTLINE_GRPC_TLS_CERT": str(cert),
        "FLIGHTLINE_GRPC_TLS_KEY": str(key),
        "FLIGHTLINE_GRPC_TLS_CLIENT_CA": str(cert),
    }
    trusted, private = cert.read_bytes(), key.read_bytes()
    async with running_control_api(kafka, postgres_dsn, tmp_path, **env) as api:
        known = grpc.ssl_channel_credentials(trusted, private, trusted)
        async with grpc.aio.secure_channel(f"localhost:{port}", known) as channel:
            await Client(channel, api.made.admin_token)("ListCampaigns")
        unknown = grpc.ssl_channel_credentials(trusted)
        for stranger in (
            grpc.aio.secure_channel(f"localhost:{port}", unknown),
            grpc.aio.insecure_channel(f"localhost:{port}"),
        ):
            async with stranger as channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await Client(channel, api.made.admin_token)("ListCampaigns")
                assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"FLIGHTLINE_GRPC_BIND": "9090"}, "FLIGHTLINE_GRPC_BIND must be host:port"),
        ({"FLIGHTLINE_GRPC_TLS_CERT": "/cert.pem"}, "need each other"),
        ({"FLIGHTLINE_GRPC_TLS_CLIENT_CA": "/ca.pem"}, "FLIGHTLINE_GRPC_TLS_CLIENT_CA needs"),
        (
            {"FLIGHTLINE_GRPC_TLS_CERT": "/no/cert.pem", "FLIGHTLINE_GRPC_TLS_KEY": "/no/key.pem"},
            "FLIGHTLINE_GRPC_TLS_… cannot be used",
        ),
    ],
)
def test_wrong_settings_end_the_process_with_a_sentence(changes: dict[str, str], said: str) -> None:
    env = {"FLIGHTLINE_GRPC_BIND": f"127.0.0.1:{free_port()}"} | changes
    assert said in ended(env)


async def test_a_taken_port_ends_the_process_with_a_sentence() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        said = await asyncio.to_thread(ended, {"FLIGHTLINE_GRPC_BIND": f"127.0.0.1:{port}"})
    assert "FLIGHTLINE_GRPC_BIND cannot be bound" in said


def ended(env: dict[str, str]) -> str:
    """What a control API says that does not start."""
    needed = {
        "FLIGHTLINE_KAFKA": "127.0.0.1:1",
        "FLIGHTLINE_POSTGRES": "postgresql://127.0.0.1:1/none",
        "FLIGHTLINE_BIND": f"127.0.0.1:{free_port()}",
        "FLIGHTLINE_JWT_SECRET": SECRET,
    }
    command = [sys.executable, "-m", "control_api"]
    done = subprocess.run(
        command, env=os.environ | needed | env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    return done.stderr
