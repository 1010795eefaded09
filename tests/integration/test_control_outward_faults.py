"""Webhooks and gRPC under faults: two replicas, engines that are frozen, a topic that was made anew."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient

from compose.topics import ensure_topics
from schemas import domain_events
from schemas.flightline.v1 import campaigns_pb2 as pb
from tests.integration.control import ControlApi, eventually, running_control_api
from tests.integration.subscriber import Subscriber, running_subscriber
from tests.processes import frozen
from tests.running import RunningStack, free_port, running_stack, scratch

_WITHIN = 60.0
_ENDS_WITHIN = 15.0
"""The service promises ten seconds; the rest is for a machine that does other things as well."""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def own(engines: RunningStack) -> Iterator[RunningStack]:
    """Kafka and Postgres of this module's own: they are frozen here."""
    env = {"FLIGHTLINE_CLICKHOUSE": engines.ready.clickhouse}
    with scratch() as path, running_stack(path / "state", "--only-engines", env=env) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def dsn(own: RunningStack) -> str:
    await ensure_topics(own.ready.kafka)
    return await own.fresh_postgres()


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(
    own: RunningStack, dsn: str, port: int, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlApi]:
    env = {"FLIGHTLINE_WEBHOOKS_PRIVATE": "1", "FLIGHTLINE_GRPC_BIND": f"127.0.0.1:{port}"}
    folder = tmp_path_factory.mktemp("api")
    async with running_control_api(own.ready.kafka, dsn, folder, **env) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def subscriber() -> AsyncIterator[Subscriber]:
    async with running_subscriber() as running:
        yield running


async def subscribe(api: ControlApi, url: str) -> str:
    answer = await api.call("POST", "/webhooks", {"url": url, "eventTypes": ["flightline.campaign.created"]})
    assert answer.status == 201, answer
    return str(answer.body["id"])


async def until_delivered(api: ControlApi, webhook_id: str, campaigns: list[str]) -> None:
    """Until each campaign's delivery is, whatever lease is in the way."""

    async def all_are() -> bool:
        rows = await api.sql(
            "SELECT subject FROM control.webhook_deliveries "
            "WHERE webhook_id = $1::uuid AND state = 'DELIVERED'",
            webhook_id,
        )
        return sorted(row["subject"] for row in rows) == sorted(campaigns)

    await eventually(all_are, _WITHIN)


async def test_two_replicas_deliver_each_event_once(
    api: ControlApi,
    subscriber: Subscriber,
    own: RunningStack,
    dsn: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    webhook = await subscribe(api, subscriber.at("/two", 200))
    env = {"FLIGHTLINE_WEBHOOKS_PRIVATE": "1"}
    folder = tmp_path_factory.mktemp("second")
    async with running_control_api(own.ready.kafka, dsn, folder, **env) as second:
        made = await asyncio.gather(*(one.create() for one in [api, second] * 20))
        campaigns = [campaign["id"] for campaign in made]
        await until_delivered(api, webhook, campaigns)
        second.kill()
        more = [(await api.create())["id"] for _ in range(5)]
        await until_delivered(api, webhook, campaigns + more)
    got = Counter(got.event["subject"] for got in subscriber.got["/two"])
    assert got == dict.fromkeys(campaigns + more, 1)
    await api.call("DELETE", f"/webhooks/{webhook}")


@pytest.mark.parametrize("engine", ["kafka", "postgres"])
async def test_what_happened_around_an_engines_outage_arrives(
    api: ControlApi, subscriber: Subscriber, own: RunningStack, engine: str
) -> None:
    path = f"/outage-{engine}"
    webhook = await subscribe(api, subscriber.at(path, 200))
    campaigns = [(await api.create())["id"] for _ in range(3)]
    with frozen(own.ready.processes[engine]):
        during = await asyncio.gather(*(api.create() for _ in range(3)), return_exceptions=True)
    campaigns += [one["id"] for one in during if isinstance(one, dict)]
    campaigns += [(await api.create())["id"] for _ in range(3)]
    for campaign in campaigns:

        async def has_come(campaign: str = campaign) -> bool:
            return bool(subscriber.of(path, campaign))

        await eventually(has_come, _WITHIN)
    assert "background.failed" not in api.log
    await api.call("DELETE", f"/webhooks/{webhook}")


async def test_a_topic_that_was_made_anew_is_read_from_its_beginning(
    api: ControlApi, subscriber: Subscriber, own: RunningStack
) -> None:
    webhook = await subscribe(api, subscriber.at("/anew", 200))
    before = [(await api.create())["id"] for _ in range(20)]
    await until_delivered(api, webhook, before)
    admin = AIOKafkaAdminClient(bootstrap_servers=own.ready.kafka)
    await admin.start()
    try:
        await admin.delete_topics([domain_events.TOPIC])

        async def is_gone() -> bool:
            return domain_events.TOPIC not in await admin.list_topics()

        await eventually(is_gone, _WITHIN)
    finally:
        await admin.close()
    await ensure_topics(own.ready.kafka)
    after = [(await api.create())["id"] for _ in range(5)]
    await until_delivered(api, webhook, before + after)
    await api.call("DELETE", f"/webhooks/{webhook}")


@pytest.mark.parametrize("engine", ["kafka", "postgres"])
async def test_sigterm_ends_calls_and_process_in_time_while_an_engine_is_frozen(
    api: ControlApi, own: RunningStack, port: int, engine: str
) -> None:
    metadata = (("authorization", f"Bearer {api.made.admin_token}"),)
    campaign = await api.create()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        activate = channel.unary_unary("/flightline.v1.CampaignService/ActivateCampaign")
        list_page = channel.unary_unary("/flightline.v1.CampaignService/ListCampaigns")
        asked = pb.ActivateCampaignRequest(id=campaign["id"], start_now=True).SerializeToString()
        with frozen(own.ready.processes[engine]):
            waiting = [asyncio.ensure_future(activate(asked, metadata=metadata, timeout=30))]
            waiting += [
                asyncio.ensure_future(list_page(b"", metadata=metadata, timeout=30)) for _ in range(3)
            ]
            api.terminate()
            assert await asyncio.to_thread(api.wait, _ENDS_WITHIN) == 0
            answers = await asyncio.gather(*waiting, return_exceptions=True)
    allowed = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert {one.code() for one in answers if isinstance(one, grpc.aio.AioRpcError)} <= allowed
    assert all(isinstance(one, bytes | grpc.aio.AioRpcError) for one in answers)
    await api.start()
