"""Track: events through the control API, a real door behind it."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import msgspec
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer

from control_api.domain.tracking import internal_key
from schemas import access_keys
from schemas.access_keys import hash_key
from schemas.events import TrackingEvent, decode_events
from schemas.ids import new_id
from schemas.topics import TRACKING_EVENTS
from tests.integration.control import SECRET, Answer, ControlApi, body, eventually, now, running_control_api
from tests.integration.door import Door, running_door
from tests.running import free_port


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def door(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    async with running_door(kafka, Path(tmp_path_factory.mktemp("door"))) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(
    kafka: str, postgres_dsn: str, door: Door, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlApi]:
    folder = Path(tmp_path_factory.mktemp("control"))
    async with running_control_api(kafka, postgres_dsn, folder, FLIGHTLINE_INGEST_URL=door.url) as running:
        yield running


async def track(api: ControlApi, campaign_id: str, event: dict[str, Any], **options: Any) -> Answer:
    return await api.call("POST", f"/campaigns/{campaign_id}/track", event, **options)


async def logged(api: ControlApi, campaign_id: str) -> list[TrackingEvent]:
    """All events of a campaign that are in the log."""
    consumer = AIOKafkaConsumer(TRACKING_EVENTS, bootstrap_servers=api.kafka, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = consumer.assignment()
        ends = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        events: list[TrackingEvent] = []
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                for record in batch:
                    events += decode_events(record.value or b"")
        return [event for event in events if event.campaign_id == campaign_id]
    finally:
        await consumer.stop()


async def test_an_event_is_in_the_log_when_it_is_answered(api: ControlApi) -> None:
    campaign = await api.active()
    answer = await track(api, campaign["id"], {"type": "IMPRESSION", "eventId": "a-1", "visitorId": "v-1"})
    assert answer.status == 202, answer
    assert answer.body == {"eventId": "a-1", "status": "accepted", "serve": True}
    (event,) = await logged(api, campaign["id"])
    assert (event.event_id, event.visitor_id, event.type) == ("a-1", "v-1", "IMPRESSION")
    assert event.organization_id == api.made.organization_id


async def test_the_internal_key_only_writes_events_and_is_nobodys_to_see(api: ControlApi) -> None:
    token, organization, campaign_id = await another(api)
    assert (await track(api, campaign_id, {"type": "CLICK"}, token=token)).status == 202
    clear = internal_key(SECRET, organization)
    (key,) = await api.records(access_keys.TOPIC, hash_key(clear))
    assert (key["scopes"], key["kind"]) == (["events:write"], "server")
    shown = (await api.call("GET", "/api-keys", token=token)).body["items"]
    assert len(shown) == 2
    assert key["keyId"] not in {each["id"] for each in shown}
    assert (await api.call("DELETE", f"/api-keys/{key['keyId']}", token=token)).status == 404
    (stored,) = await api.sql(
        "SELECT * FROM control.access_keys WHERE internal AND organization_id = $1::uuid", organization
    )
    assert stored["key_hash"] == hash_key(clear)
    assert clear not in map(str, stored.values())
    (entry,) = await api.sql("SELECT action FROM control.audit WHERE subject_id = $1", key["keyId"])
    assert entry["action"] == "key.made"


async def another(api: ControlApi) -> tuple[str, str, str]:
    """A token of another organization, its id, and a campaign of it that runs."""
    token = await api.other_organization()
    organization = (await api.call("GET", "/organization", token=token)).body["id"]
    made = await api.call("POST", "/campaigns", body(), token=token)
    await api.call("POST", f"/campaigns/{made.body['id']}/activate", {"startNow": True}, token=token)
    return token, organization, made.body["id"]


async def test_a_new_secret_makes_a_new_key_and_revokes_the_old_one(api: ControlApi) -> None:
    token, organization, campaign_id = await another(api)
    old, old_hash = new_id(), hash_key(internal_key("another secret", organization))
    await api.sql(
        "INSERT INTO control.access_keys (id, organization_id, name, key_hash, hint, kind, scopes, "
        "created_by, internal) "
        "VALUES ($1::uuid, $2::uuid, 'old', $3, 'sk_', 'server', '{events:write}', $4::uuid, true)",
        old,
        organization,
        old_hash,
        api.made.admin_id,
    )
    assert (await track(api, campaign_id, {"type": "CLICK"}, token=token)).status == 202

    async def is_revoked() -> bool:
        return any(each["revoked"] for each in await api.values(access_keys.TOPIC, old_hash))

    await eventually(is_revoked, 10)
    kept = await api.sql(
        "SELECT key_hash FROM control.access_keys WHERE organization_id = $1::uuid AND internal "
        "AND revoked_at IS NULL",
        organization,
    )
    assert [row["key_hash"] for row in kept] == [hash_key(internal_key(SECRET, organization))]


async def test_a_secret_that_is_put_back_has_its_key_again(api: ControlApi) -> None:
    token, organization, campaign_id = await another(api)
    assert (await track(api, campaign_id, {"type": "CLICK"}, token=token)).status == 202
    key_hash = hash_key(internal_key(SECRET, organization))
    # As another secret leaves it.
    await api.sql(
        "WITH gone AS (UPDATE control.access_keys SET revoked_at = now(), version = 2 WHERE key_hash = $1) "
        "INSERT INTO control.outbox (topic, key, value) VALUES ($2, $3, $4)",
        key_hash,
        access_keys.TOPIC,
        key_hash.encode(),
        msgspec.json.encode(
            (await api.records(access_keys.TOPIC, key_hash))[-1] | {"version": 2, "revoked": True}
        ),
    )

    async def is_refused_at_the_door() -> bool:
        (found,) = await api.sql("SELECT * FROM control.access_keys WHERE key_hash = $1", key_hash)
        await track(api, campaign_id, {"type": "CLICK"}, token=token)
        return bool(found["version"] > 2)

    await eventually(is_refused_at_the_door, 20)
    assert (await track(api, campaign_id, {"type": "CLICK"}, token=token)).status == 202
    (key,) = await api.sql("SELECT * FROM control.access_keys WHERE key_hash = $1", key_hash)
    assert (key["revoked_at"], key["version"]) == (None, 3)
    states = [each["revoked"] for each in await api.records(access_keys.TOPIC, key_hash)]
    assert states == [False, True, False]
    entries = await api.sql(
        "SELECT action FROM control.audit WHERE subject_id = $1 ORDER BY seq", str(key["id"])
    )
    assert [entry["action"] for entry in entries] == ["key.made", "key.restored"]


async def test_many_first_events_at_once_make_one_key(api: ControlApi) -> None:
    token, organization, campaign_id = await another(api)
    answers = await asyncio.gather(
        *(track(api, campaign_id, {"type": "IMPRESSION"}, token=token) for _ in range(12))
    )
    assert {answer.status for answer in answers} == {202}
    keys = await api.sql(
        "SELECT id FROM control.access_keys WHERE internal AND organization_id = $1::uuid", organization
    )
    assert len(keys) == 1


async def test_a_repeat_with_an_idempotency_key_has_the_same_event_id(api: ControlApi) -> None:
    campaign = await api.active()
    headers = {"Idempotency-Key": new_id()}
    first = await track(api, campaign["id"], {"type": "CLICK"}, headers=headers)
    again = await track(api, campaign["id"], {"type": "CLICK"}, headers=headers)
    assert first.body == again.body
    assert again.headers["Idempotent-Replayed"] == "true"
    # A crash between the door's answer and ours: nothing is kept, and the event goes out once more.
    await api.sql("DELETE FROM control.repeats")
    third = await track(api, campaign["id"], {"type": "CLICK"}, headers=headers)
    assert third.body["eventId"] == first.body["eventId"]
    assert {event.event_id for event in await logged(api, campaign["id"])} == {first.body["eventId"]}
    other = await track(api, campaign["id"], {"type": "CLICK"}, headers={"Idempotency-Key": new_id()})
    assert other.body["eventId"] != first.body["eventId"]


async def test_bots_are_judged_by_the_events_user_agent_and_not_by_the_back_ends(api: ControlApi) -> None:
    campaign = await api.active()
    crawler = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    bot = await track(api, campaign["id"], {"type": "CLICK", "userAgent": crawler})
    assert (bot.body["status"], bot.body["reason"]) == ("unbilled", "BOT")
    visitor = await track(api, campaign["id"], {"type": "CLICK"}, headers={"User-Agent": crawler})
    assert visitor.body["status"] == "accepted"


async def test_who_asks_not_to_be_tracked_is_counted_without_a_name(api: ControlApi) -> None:
    campaign = await api.active()
    event = {"type": "CLICK", "visitorId": "v-9", "url": "https://shop.example/?who=me"}
    assert (await track(api, campaign["id"], event, headers={"Sec-GPC": "1"})).status == 202
    (stored,) = await logged(api, campaign["id"])
    assert (stored.visitor_id, stored.url) == ("", "https://shop.example/")


async def test_money_and_data_arrive_as_they_were_sent(api: ControlApi) -> None:
    campaign = await api.active()
    event = {
        "type": "CONVERSION",
        "revenue": {"amount": 0.1, "currency": "EUR"},
        "data": {"sku": "A1", "price": 19.99, "nested": [1, None, {"ü": True}]},
        "occurredAt": now().isoformat(),
    }
    assert (await track(api, campaign["id"], event)).status == 202
    (stored,) = await logged(api, campaign["id"])
    assert stored.revenue == 100_000
    assert stored.revenue_verified
    assert msgspec.json.decode(stored.data) == event["data"]


@pytest.mark.parametrize(
    ("event", "pointer"),
    [
        ({}, "/type"),
        ({"type": "VIEW"}, "/type"),
        ({"type": "CLICK", "occurredAt": "today"}, "/occurredAt"),
        ({"type": "CLICK", "country": "Germany"}, "/country"),
        ({"type": "CLICK", "visitorId": "v" * 513}, "/visitorId"),
        ({"type": "CLICK", "data": []}, "/data"),
    ],
)
async def test_a_bad_event_is_refused_by_its_field(
    api: ControlApi, event: dict[str, Any], pointer: str
) -> None:
    campaign = await api.create()
    answer = await track(api, campaign["id"], event)
    assert answer.status == 422
    assert [error["pointer"] for error in answer.body["errors"]] == [pointer]


async def test_unknown_fields_are_refused_and_so_is_a_campaign_in_the_body(api: ControlApi) -> None:
    campaign = await api.create()
    for name in ("campaignId", "color"):
        answer = await track(api, campaign["id"], {"type": "CLICK", name: campaign["id"]})
        assert answer.status == 400


async def test_what_the_door_refuses_is_a_problem_with_its_reason(api: ControlApi) -> None:
    campaign = await api.active()
    for event, reason in (
        ({"occurredAt": "2026-01-01T00:00:00Z"}, "TOO_OLD"),
        ({"occurredAt": "2036-01-01T00:00:00Z"}, "IN_FUTURE"),
        ({"revenue": {"amount": 1, "currency": "USD"}}, "WRONG_CURRENCY"),
        ({"data": {"x": "y" * 5_000}}, "TOO_LARGE"),
    ):
        answer = await track(api, campaign["id"], {"type": "CLICK", **event})
        assert (answer.status, answer.body["type"]) == (422, "/problems/event-rejected"), answer
        assert answer.body["reason"] == reason
        assert answer.body["detail"]


async def test_costs_of_the_callers_own_need_a_key_of_their_own(api: ControlApi) -> None:
    pricing = {"model": "EVENT"}
    campaign = await api.active(settings={"channels": ["WEB"], "pricing": pricing})
    answer = await track(api, campaign["id"], {"type": "CLICK", "cost": {"amount": 1}})
    assert (answer.status, answer.body["reason"]) == (422, "MISSING_SCOPE")


async def test_unknown_campaigns_and_those_of_others_are_not_found(api: ControlApi) -> None:
    campaign = await api.active()
    other = await api.other_organization()
    event = {"type": "CLICK"}
    assert (await track(api, campaign["id"], event, token=other)).status == 404
    assert (await track(api, new_id(), event)).status == 404
    assert (await track(api, "01890000-0000-7000-8000-000000000000", event)).status == 404
    assert (await track(api, "nonsense", event)).status == 404
    deleted = await api.create()
    await api.call("DELETE", f"/campaigns/{deleted['id']}")

    async def is_gone() -> bool:
        return (await track(api, deleted["id"], event)).status == 404

    await eventually(is_gone, 10)


async def test_a_campaign_that_was_made_just_now_can_be_tracked_at_once(api: ControlApi) -> None:
    for _ in range(5):
        campaign = await api.create()
        answer = await track(api, campaign["id"], {"type": "IMPRESSION"})
        assert (answer.status, answer.body["reason"]) == (202, "DRAFT"), answer


async def test_once_the_key_is_known_no_table_is_needed(api: ControlApi) -> None:
    campaign = await api.active()
    await track(api, campaign["id"], {"type": "CLICK"})
    connection = await asyncpg.connect(api.dsn)
    async with connection.transaction():
        await connection.execute("LOCK TABLE control.campaigns, control.access_keys")
        answers = [await track(api, campaign["id"], {"type": "CLICK"}) for _ in range(5)]
    await connection.close()
    assert {answer.status for answer in answers} == {202}


@pytest.mark.parametrize("how", ["away", "frozen"])
async def test_without_a_door_nothing_is_promised_and_the_rest_goes_on(
    kafka: str, postgres_dsn: str, folder: Path, how: str
) -> None:
    async with running_door(kafka, folder / "door") as door:
        url = door.url if how == "frozen" else f"http://127.0.0.1:{free_port()}"
        async with running_control_api(kafka, postgres_dsn, folder, FLIGHTLINE_INGEST_URL=url) as api:
            campaign = await api.create()
            if how == "frozen":
                door.process.send_signal(signal.SIGSTOP)
            answer = await track(api, campaign["id"], {"type": "CLICK"}, timeout=aiohttp.ClientTimeout(20))
            assert (answer.status, answer.body["type"]) == (503, "/problems/door-unavailable")
            assert int(answer.headers["Retry-After"]) >= 1
            assert (await api.call("GET", f"/campaigns/{campaign['id']}")).status == 200
            door.process.send_signal(signal.SIGCONT)


async def test_a_door_that_comes_back_is_used_again(kafka: str, postgres_dsn: str, folder: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with running_control_api(kafka, postgres_dsn, folder, FLIGHTLINE_INGEST_URL=url) as api:
        campaign = await api.active()
        for number in range(2):
            async with running_door(kafka, folder / f"door-{number}", port=port):
                assert (await track(api, campaign["id"], {"type": "CLICK"})).status == 202
            assert (await track(api, campaign["id"], {"type": "CLICK"})).status == 503
