"""Webhooks of the control API: a real subscriber, the real Postgres and Kafka."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web
from aiokafka import AIOKafkaProducer
from standardwebhooks.webhooks import WebhookVerificationError

from control_api.domain.deliveries import PAUSES
from control_api.external.subscribers import HttpSubscribers
from control_api.jobs.deliveries import LEASE, MOST, SHARES
from schemas import domain_events
from schemas.domain_events import DomainEvent, DomainEventType
from schemas.ids import new_id
from tests.integration.control import Answer, ControlApi, eventually, now, running_control_api
from tests.integration.control import body as campaign_body
from tests.integration.subscriber import Gate, Got, Subscriber, running_subscriber

CREATED, UPDATED = "flightline.campaign.created", "flightline.campaign.updated"
_WITHIN = 60.0


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(
    kafka: str, postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlApi]:
    env = {"FLIGHTLINE_WEBHOOKS_PRIVATE": "1"}
    folder = tmp_path_factory.mktemp("webhooks")
    async with running_control_api(kafka, postgres_dsn, folder, **env) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def subscriber() -> AsyncIterator[Subscriber]:
    async with running_subscriber() as running:
        yield running


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def no_webhooks_of_other_tests(api: ControlApi) -> AsyncIterator[None]:
    """They would get this test's events as well."""
    yield
    for webhook in (await api.call("GET", "/webhooks")).body["items"]:
        await api.call("DELETE", f"/webhooks/{webhook['id']}")


async def subscribe(api: ControlApi, url: str, **changes: Any) -> dict[str, Any]:
    answer = await api.call("POST", "/webhooks", {"url": url, **changes})
    assert answer.status == 201, answer
    return dict(answer.body)


async def deliveries(api: ControlApi, webhook: dict[str, Any], query: str = "") -> list[dict[str, Any]]:
    answer = await api.call("GET", f"/webhooks/{webhook['id']}/deliveries{query}")
    assert answer.status == 200, answer
    return list(answer.body["items"])


async def until_state(api: ControlApi, webhook: dict[str, Any], subject: str, state: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        found = [one for one in await deliveries(api, webhook) if one["subject"] == subject]
        return found[0] if found and found[0]["state"] == state else None

    return await eventually(look, _WITHIN)


async def until_got(subscriber: Subscriber, path: str, subject: str, count: int = 1) -> list[Got]:
    async def look() -> list[Got] | None:
        found = subscriber.of(path, subject)
        return found if len(found) >= count else None

    return await eventually(look, _WITHIN)


async def time_passes(api: ControlApi, webhook: dict[str, Any], *, ends_leases: bool = True) -> None:
    """What waits for its next attempt is due; with `ends_leases` what is under way, too, as after a crash."""
    await api.sql(
        "UPDATE control.webhook_deliveries SET next_attempt_at = now() - interval '1 second' "
        "WHERE webhook_id = $1::uuid AND state = 'PENDING' "
        "AND ($2 OR next_attempt_at - last_attempt_at IS DISTINCT FROM $3::interval)",
        webhook["id"],
        ends_leases,
        LEASE,
    )


async def audited(api: ControlApi, webhook: dict[str, Any]) -> list[str]:
    rows = await api.sql(
        "SELECT action FROM control.audit WHERE subject_id = $1 ORDER BY seq", str(webhook["id"])
    )
    return [row["action"] for row in rows]


async def test_events_arrive_signed_as_they_are_in_the_topic(api: ControlApi, subscriber: Subscriber) -> None:
    webhook = await subscribe(api, subscriber.at("/signed", 200), eventTypes=[CREATED])
    campaign = await api.create()
    await api.put(campaign, name=f"other {campaign['name']}")
    [got] = await until_got(subscriber, "/signed", campaign["id"])
    event = got.verify(webhook["secret"])
    assert got.body in await api.raw(domain_events.TOPIC, campaign["id"])
    assert (event["type"], event["specversion"], event["id"]) == (CREATED, "1.0", got.id)
    assert got.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    delivered = await until_state(api, webhook, campaign["id"], "DELIVERED")
    assert (delivered["responseStatus"], delivered["attempts"], delivered["eventId"]) == (200, 1, got.id)
    assert delivered["nextAttemptAt"] is None
    shown = await api.call("GET", f"/webhooks/{webhook['id']}/deliveries/{delivered['id']}")
    assert shown.body["payload"] == event


async def test_the_secret_is_shown_once_and_is_nowhere_in_clear(
    api: ControlApi, subscriber: Subscriber
) -> None:
    webhook = await subscribe(api, subscriber.at("/secret", 200))
    for path in ("/webhooks", f"/webhooks/{webhook['id']}"):
        assert webhook["secret"] not in await api.text(path)
    rows = await api.sql("SELECT row_to_json(w)::text AS row FROM control.webhooks w")
    rows += await api.sql("SELECT row_to_json(a)::text AS row FROM control.audit a")
    assert not any(webhook["secret"] in row["row"] for row in rows)
    assert webhook["secret"] not in api.log


async def test_a_webhook_is_changed_on_the_version_that_was_read_and_audited(
    api: ControlApi, subscriber: Subscriber
) -> None:
    webhook = await subscribe(api, subscriber.at("/crud", 200), description="first")
    path = f"/webhooks/{webhook['id']}"
    read = await api.call("GET", path)
    assert read.headers["ETag"] == '"1"'
    assert (await api.call("PUT", path, read.body)).status == 428
    changed = await api.call("PUT", path, read.body | {"description": "second"}, headers={"If-Match": '"1"'})
    assert (changed.status, changed.body["description"], changed.body["version"]) == (200, "second", 2)
    assert (await api.call("PUT", path, read.body, headers={"If-Match": '"1"'})).status == 412
    assert (await api.call("DELETE", path)).status == 204
    assert (await api.call("GET", path)).status == 404
    assert await audited(api, webhook) == ["webhook.created", "webhook.updated", "webhook.deleted"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": "ftp://example.com"},
        {"url": "https://example.com", "eventTypes": ["flightline.campaign.exploded"]},
        {"url": "https://example.com", "description": "x" * 1_001},
        {"url": "https://example.com/\0"},
        {"url": "https://" + "x" * 3_000},
        {"url": 7},
    ],
)
async def test_bad_input_is_refused_and_stores_nothing(api: ControlApi, body: dict[str, Any]) -> None:
    before = (await api.call("GET", "/webhooks")).body
    assert (await api.call("POST", "/webhooks", body)).status == 422
    assert (await api.call("GET", "/webhooks")).body == before


async def test_a_request_that_is_sent_again_makes_one_webhook_with_one_secret(
    api: ControlApi, subscriber: Subscriber
) -> None:
    asked = {"url": subscriber.at("/again", 200)}
    headers = {"Idempotency-Key": new_id()}
    first, second = [await api.call("POST", "/webhooks", asked, headers=headers) for _ in range(2)]
    assert (first.status, first.body) == (second.status, second.body)


async def test_failures_are_tried_again_with_the_same_id_until_they_succeed(
    api: ControlApi, subscriber: Subscriber
) -> None:
    statuses = [500, 302, 204]

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=statuses.pop(0), text="why\0", headers={"Location": "/signed"})

    webhook = await subscribe(api, subscriber.at("/failing", answer), eventTypes=[CREATED])
    campaign = await api.create()
    for attempts, told in ((1, 500), (2, 302)):
        await until_got(subscriber, "/failing", campaign["id"], attempts)

        async def look(attempts: int = attempts, told: int = told) -> bool:
            [one] = await deliveries(api, webhook)
            return (one["attempts"], one["responseStatus"], one["state"]) == (attempts, told, "PENDING")

        await eventually(look, _WITHIN)
        [one] = await deliveries(api, webhook)
        assert one["error"] == f"answered {told}"
        await time_passes(api, webhook)
    delivered = await until_state(api, webhook, campaign["id"], "DELIVERED")
    tries = subscriber.of("/failing", campaign["id"])
    assert delivered["attempts"] == len(tries) == 3
    assert len({got.id for got in tries}) == 1
    for got in tries:
        assert got.verify(webhook["secret"])["subject"] == campaign["id"]


async def test_retry_after_is_honoured_and_a_long_answer_is_read_to_its_beginning(
    api: ControlApi, subscriber: Subscriber
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=503, text="x" * 5_000_000, headers={"Retry-After": "7200"})

    webhook = await subscribe(api, subscriber.at("/busy", answer), eventTypes=[CREATED])
    campaign = await api.create()

    async def look() -> dict[str, Any] | None:
        found = await deliveries(api, webhook)
        return found[0] if found and found[0]["responseStatus"] else None

    one = await eventually(look, _WITHIN)
    assert one["subject"] == campaign["id"]
    assert one["response"] == "x" * 1_024
    wait = await api.sql(
        "SELECT extract(epoch FROM next_attempt_at - last_attempt_at) AS s FROM control.webhook_deliveries "
        "WHERE id = $1::uuid",
        one["id"],
    )
    assert wait[0]["s"] >= 7_200


async def test_after_the_last_attempt_it_is_a_dead_letter_that_can_be_sent_again(
    api: ControlApi, subscriber: Subscriber
) -> None:
    status = 500

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status)

    webhook = await subscribe(api, subscriber.at("/dying", answer), eventTypes=[CREATED])
    campaigns = [await api.create() for _ in range(3)]
    for campaign in campaigns:
        await until_got(subscriber, "/dying", campaign["id"])

    async def all_dead() -> bool:
        await time_passes(api, webhook, ends_leases=False)
        return len(await deliveries(api, webhook, "?state=DEAD")) == len(campaigns)

    await eventually(all_dead, _WITHIN)
    dead = await deliveries(api, webhook, "?state=DEAD")
    assert {one["attempts"] for one in dead} == {len(PAUSES) + 1}
    status = 200
    one = dead[0]
    path = f"/webhooks/{webhook['id']}/deliveries"
    answer_one = await api.call("POST", f"{path}/{one['id']}/redeliver")
    assert (answer_one.status, answer_one.body["state"]) == (202, "PENDING")
    await until_state(api, webhook, one["subject"], "DELIVERED")
    rest = await api.call("POST", f"{path}/redeliver")
    assert (rest.status, rest.body) == (202, {"redelivered": 2})
    for campaign in campaigns:
        await until_state(api, webhook, campaign["id"], "DELIVERED")
        assert len({got.id for got in subscriber.of("/dying", campaign["id"])}) == 1
    assert await deliveries(api, webhook, "?state=DEAD") == []
    assert (await audited(api, webhook)).count("webhook.redelivered") == 2


async def test_410_deactivates_and_leaves_dead_letters(api: ControlApi, subscriber: Subscriber) -> None:
    webhook = await subscribe(api, subscriber.at("/gone", 410), eventTypes=[CREATED])
    campaign = await api.create()
    await until_state(api, webhook, campaign["id"], "DEAD")
    path = f"/webhooks/{webhook['id']}"
    shown = (await api.call("GET", path)).body
    assert (shown["active"], shown["inactiveReason"]) == (False, "GONE")
    assert (await audited(api, webhook))[-1] == "webhook.deactivated"
    [one] = await deliveries(api, webhook)
    for refused in ("/test", "/deliveries/redeliver", f"/deliveries/{one['id']}/redeliver"):
        answer = await api.call("POST", path + refused)
        assert (answer.status, answer.body["type"]) == (409, "/problems/webhook-inactive")
    unheard = await api.create()
    subscriber.at("/gone", 200)
    etag = {"If-Match": f'"{shown["version"]}"'}
    again = await api.call("PUT", path, shown | {"active": True}, headers=etag)
    assert (again.body["active"], again.body["inactiveReason"]) == (True, None)
    heard = await api.create()
    await until_state(api, webhook, heard["id"], "DELIVERED")
    assert not subscriber.of("/gone", unheard["id"])


async def test_what_waits_for_a_webhook_that_is_switched_off_is_not_sent(
    api: ControlApi, subscriber: Subscriber
) -> None:
    webhook = await subscribe(api, subscriber.at("/off", 500), eventTypes=[CREATED])
    campaign = await api.create()
    await until_got(subscriber, "/off", campaign["id"])
    path = f"/webhooks/{webhook['id']}"
    shown = (await api.call("GET", path)).body
    await api.call("PUT", path, shown | {"active": False}, headers={"If-Match": '"1"'})
    await until_state(api, webhook, campaign["id"], "DEAD")


async def test_both_secrets_sign_while_they_overlap(api: ControlApi, subscriber: Subscriber) -> None:
    webhook = await subscribe(api, subscriber.at("/rotated", 200), eventTypes=[CREATED])
    path = f"/webhooks/{webhook['id']}/rotate-secret"
    rotated = await api.call("POST", path)
    assert (rotated.status, rotated.headers["Cache-Control"]) == (200, "no-store")
    assert rotated.body["previousSecretUntil"]
    campaign = await api.create()
    [got] = await until_got(subscriber, "/rotated", campaign["id"])
    assert got.verify(webhook["secret"]) == got.verify(rotated.body["secret"])
    at_once = await api.call("POST", path, {"overlapHours": 0})
    campaign = await api.create()
    [got] = await until_got(subscriber, "/rotated", campaign["id"])
    assert got.verify(at_once.body["secret"])
    for old in (webhook["secret"], rotated.body["secret"]):
        with pytest.raises(WebhookVerificationError):
            got.verify(old)
    assert (await api.call("POST", path, {"overlapHours": 1_000})).status == 422


async def test_an_event_on_request_is_sent_whatever_types_are_asked_for(
    api: ControlApi, subscriber: Subscriber
) -> None:
    webhook = await subscribe(api, subscriber.at("/test", 200), eventTypes=[CREATED])
    asked = await api.call("POST", f"/webhooks/{webhook['id']}/test")
    assert (asked.status, asked.body["state"]) == (202, "PENDING")
    [got] = await until_got(subscriber, "/test", webhook["id"])
    assert got.verify(webhook["secret"])["type"] == "flightline.webhook.test"
    await until_state(api, webhook, webhook["id"], "DELIVERED")


async def test_killed_between_sending_and_recording_it_sends_again_with_the_same_id(
    api: ControlApi, subscriber: Subscriber
) -> None:
    gate = Gate()
    webhook = await subscribe(api, subscriber.at("/killed", gate), eventTypes=[CREATED])
    campaign = await api.create()
    await until_got(subscriber, "/killed", campaign["id"])
    api.kill()
    gate.open()
    await api.start()
    await time_passes(api, webhook)
    delivered = await until_state(api, webhook, campaign["id"], "DELIVERED")
    first, second = subscriber.of("/killed", campaign["id"])
    assert first.id == second.id
    assert first.body == second.body
    assert delivered["attempts"] == 2


async def test_nothing_is_lost_or_made_twice_however_often_it_is_killed(
    api: ControlApi, subscriber: Subscriber
) -> None:
    webhook = await subscribe(api, subscriber.at("/kills", 200), eventTypes=[CREATED])
    campaigns = []
    for _ in range(3):
        campaigns += [await api.create() for _ in range(5)]
        api.kill()
        await api.start()
    for campaign in campaigns:
        await until_got(subscriber, "/kills", campaign["id"])
    await time_passes(api, webhook)

    async def all_delivered() -> bool:
        await time_passes(api, webhook)
        return len(await deliveries(api, webhook, "?state=DELIVERED&limit=200")) == len(campaigns)

    await eventually(all_delivered, _WITHIN)
    assert len(await deliveries(api, webhook, "?limit=200")) == len(campaigns)


async def test_events_of_the_aggregator_and_copies_in_the_topic_are_delivered_once(
    api: ControlApi, subscriber: Subscriber, kafka: str
) -> None:
    webhook = await subscribe(api, subscriber.at("/alerts", 200))
    campaign_id = new_id()
    alert = DomainEvent(
        id=new_id(),
        source="/flightline/aggregator",
        type=DomainEventType.PERFORMANCE_ALERT,
        subject=campaign_id,
        time=now().isoformat(),
        organization=api.made.organization_id,
        data={"metric": "ctr"},
    )
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        last = msgspec.structs.replace(alert, id=new_id())
        for value in (alert, alert, last):
            key = campaign_id.encode()
            await producer.send_and_wait(domain_events.TOPIC, msgspec.json.encode(value), key=key)
        for broken in (b"{", b"null", b"\xff", b'{"id": 1}', None):
            await producer.send_and_wait(domain_events.TOPIC, broken, key=campaign_id.encode())
    finally:
        await producer.stop()

    async def look() -> list[Got] | None:
        found = subscriber.of("/alerts", campaign_id)
        return found if last.id in {got.id for got in found} else None

    await eventually(look, _WITHIN)
    found = [one["eventId"] for one in await deliveries(api, webhook) if one["subject"] == campaign_id]
    assert sorted(found) == sorted([alert.id, last.id])


async def test_a_slow_subscriber_does_not_hold_up_the_others(api: ControlApi, subscriber: Subscriber) -> None:
    gate = Gate()
    await subscribe(api, subscriber.at("/slow", gate), eventTypes=[CREATED])
    quick = await subscribe(api, subscriber.at("/quick", 200), eventTypes=[CREATED])
    campaigns = [await api.create() for _ in range(12)]
    try:
        for campaign in campaigns:
            await until_got(subscriber, "/quick", campaign["id"])
            await until_state(api, quick, campaign["id"], "DELIVERED")
        assert gate.waiting <= 2 * 4  # a time-out of the first four lets as many go
    finally:
        gate.open()
    for campaign in campaigns:
        await until_got(subscriber, "/slow", campaign["id"])


async def test_slow_subscribers_of_an_organization_leave_half_of_the_sending_to_the_others(
    api: ControlApi, subscriber: Subscriber
) -> None:
    gate = Gate()
    for number in range(MOST + 1):
        await subscribe(api, subscriber.at(f"/slow-{number}", gate), eventTypes=[CREATED])
    token = await api.other_organization()
    theirs = {"url": subscriber.at("/theirs-quick", 200), "eventTypes": [CREATED]}
    assert (await api.call("POST", "/webhooks", theirs, token=token)).status == 201
    await api.create()

    async def has_its_share() -> bool:
        return gate.waiting >= SHARES.organization

    try:
        await eventually(has_its_share, _WITHIN)
        made = await api.call("POST", "/campaigns", campaign_body(), token=token)
        await until_got(subscriber, "/theirs-quick", made.body["id"])
        assert gate.waiting == SHARES.organization
    finally:
        gate.open()


async def test_another_organizations_events_and_webhooks_stay_its_own(
    api: ControlApi, subscriber: Subscriber
) -> None:
    token = await api.other_organization()
    theirs = await api.call("POST", "/webhooks", {"url": subscriber.at("/theirs", 200)}, token=token)
    ours = await subscribe(api, subscriber.at("/ours", 200))
    campaign = await api.create()
    await until_got(subscriber, "/ours", campaign["id"])
    [delivery] = await deliveries(api, ours)
    path = f"/webhooks/{ours['id']}"
    asked: list[Answer] = [
        await api.call("GET", path, token=token),
        await api.call("PUT", path, {"url": subscriber.url}, token=token, headers={"If-Match": '"1"'}),
        await api.call("DELETE", path, token=token),
        await api.call("GET", f"{path}/deliveries", token=token),
        await api.call("GET", f"{path}/deliveries/{delivery['id']}", token=token),
        await api.call("GET", f"/webhooks/{theirs.body['id']}/deliveries/{delivery['id']}", token=token),
        *[
            await api.call("POST", f"{path}/{act}", token=token)
            for act in (
                "rotate-secret",
                "test",
                "deliveries/redeliver",
                f"deliveries/{delivery['id']}/redeliver",
            )
        ],
    ]
    assert [answer.status for answer in asked] == [404] * len(asked)
    assert not subscriber.got["/theirs"]
    assert (await api.call("GET", "/webhooks", token=token)).body["items"] == [
        {name: value for name, value in theirs.body.items() if name != "secret"}
    ]


async def test_deliveries_come_in_pages_with_links(api: ControlApi, subscriber: Subscriber) -> None:
    webhook = await subscribe(api, subscriber.at("/pages", 200), eventTypes=[CREATED])
    for _ in range(5):
        await api.call("POST", f"/webhooks/{webhook['id']}/test")
    path, seen = f"/webhooks/{webhook['id']}/deliveries?limit=2", list[str]()
    while path:
        page = await api.call("GET", path)
        seen += [one["id"] for one in page.body["items"]]
        link = page.headers.get("Link")
        path = link.partition(">")[0].removeprefix("</api/v1") if link else ""
    assert len(seen) == len(set(seen)) == 5
    assert seen == sorted(seen, reverse=True)
    bad = await api.call("GET", f"/webhooks/{webhook['id']}/deliveries?state=LOST&cursor=x&page=1")
    assert bad.status == 400


async def test_metrics_tell_of_outcomes_and_backlog(api: ControlApi) -> None:
    text = (await api.page("/metrics")).body
    for name in ("attempts_total", "backlog ", "backlog_seconds", "deliveries_total"):
        assert f"control_api_webhook_{name}" in text


_PRIVATE, _UNUSABLE = "the host does not lead to a public address", "the URL cannot be used"


@pytest.mark.parametrize(
    ("host", "error"),
    [
        ("127.0.0.1", _PRIVATE),
        ("localhost", _PRIVATE),
        ("0x7f.1", _PRIVATE),
        ("[::1]", _PRIVATE),
        ("[::ffff:127.0.0.1]", _PRIVATE),
        ("127.1", _UNUSABLE),
        ("2130706433", _UNUSABLE),
        ("0", _UNUSABLE),
    ],
)
async def test_no_notation_of_a_private_address_is_connected_to(
    subscriber: Subscriber, host: str, error: str
) -> None:
    port = subscriber.url.rpartition(":")[2]
    before = {path: len(got) for path, got in subscriber.got.items()}
    subscribers = HttpSubscribers(private=False, connections=4)
    try:
        reply = await subscribers.send(f"http://{host}:{port}/private", {}, b"{}")
    finally:
        await subscribers.close()
    assert (reply.status, reply.error) == (None, error)
    assert {path: len(got) for path, got in subscriber.got.items()} == before


async def test_the_status_counts_also_when_the_body_does_not_end(subscriber: Subscriber) -> None:
    gate = Gate()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=200)
        await response.prepare(request)
        await response.write(b"begun")
        await gate(request)
        return response

    subscribers = HttpSubscribers(private=True, connections=4, seconds=0.5)
    try:
        reply = await subscribers.send(subscriber.at("/unended", answer), {}, b"{}")
    finally:
        gate.open()
        await subscribers.close()
    assert (reply.status, reply.text, reply.error) == (200, "begun", None)


async def test_what_is_not_http_or_does_not_end_is_an_error_with_a_sentence(subscriber: Subscriber) -> None:
    gate = Gate()
    subscribers = HttpSubscribers(private=True, connections=4, seconds=0.5)
    try:
        slow = await subscribers.send(subscriber.at("/endless", gate), {}, b"{}")
        closed = await subscribers.send("http://127.0.0.1:1/", {}, b"{}")
        nowhere = await subscribers.send("http://nowhere.invalid/", {}, b"{}")
        unusable = await subscribers.send("http://", {}, b"{}")
    finally:
        gate.open()
        await subscribers.close()
    assert slow.error == "no answer within 0.5 s"
    assert closed.error == "no connection"
    assert nowhere.error in ("the host's name cannot be resolved", "no answer within 0.5 s")
    assert unusable.error == "the URL cannot be used"
