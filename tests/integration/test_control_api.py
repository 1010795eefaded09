"""The control API over HTTP, on the real Postgres and Kafka."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from html import escape
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from control_api.bootstrap import bootstrap, mint_admin_token
from control_api.routes.problems import ALL
from control_api.settings import load
from schemas import access_keys, campaign_state, domain_events, door_problems
from schemas.access_keys import hash_key
from schemas.ids import new_id
from schemas.reasons import Threshold
from sql.migrate import migrate_postgres
from tests.integration.control import (
    DAY,
    SECRET,
    ControlApi,
    body,
    eventually,
    now,
    running_control_api,
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(
    kafka: str, postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlApi]:
    async with running_control_api(kafka, postgres_dsn, Path(tmp_path_factory.mktemp("control"))) as running:
        yield running


async def test_the_specifications_example_is_answered_in_its_shape(api: ControlApi) -> None:
    asked = body()
    answer = await api.call("POST", "/campaigns", asked)
    made = answer.body
    assert answer.status == 201
    assert answer.headers["ETag"] == '"1"'
    assert answer.headers["Location"] == f"/api/v1/campaigns/{made['id']}"
    assert made["status"] == "DRAFT"
    for field in ("name", "description", "type", "targetingRules", "budget"):
        assert made[field] == asked[field]
    assert asked["settings"].items() <= made["settings"].items()
    assert made["createdBy"] == api.made.admin_id
    assert made["metrics"]["impressions"] == 0
    assert made["metrics"]["ctr"] is None
    assert (await api.get(made["id"])) == made


async def test_a_whole_life_and_what_the_doors_are_told(api: ControlApi) -> None:
    draft = await api.create()
    path = f"/campaigns/{draft['id']}"
    headers = {"X-Request-ID": "trace-1"}
    activated = await api.call("POST", f"{path}/activate", {"startNow": True}, headers=headers)
    assert activated.status == 200
    assert activated.headers["X-Request-ID"] == "trace-1"
    assert (activated.body["status"], activated.body["propagation"]) == ("ACTIVE", "published")
    again = await api.call("POST", f"{path}/activate")
    assert again.status == 409
    assert again.body["currentStatus"] == "ACTIVE"
    assert again.body["allowedTransitions"] == ["pause", "stop"]
    assert (await api.call("POST", f"{path}/pause")).body["status"] == "PAUSED"
    assert (await api.call("POST", f"{path}/activate")).body["status"] == "ACTIVE"
    assert (await api.call("POST", f"{path}/stop")).status == 422
    assert (await api.call("POST", f"{path}/stop", {"justification": " "})).status == 422
    stopped = await api.call("POST", f"{path}/stop", {"justification": "done"})
    assert stopped.body["status"] == "CANCELLED"
    states = await api.records(campaign_state.TOPIC, draft["id"])
    assert [state["version"] for state in states] == [1, 2, 3, 4, 5]
    assert [state["status"] for state in states] == ["DRAFT", "ACTIVE", "PAUSED", "ACTIVE", "CANCELLED"]
    assert states[-1]["version"] == stopped.body["version"]
    assert states[-1]["budget"] == 10_000_000_000
    assert states[-1]["pricing"] == {"model": "CPM", "price": 2_500_000}
    assert states[-1]["maxImpressions"] == 100_000
    await eventually(lambda: _types(api, draft["id"], 5), 30)
    events = await api.records(domain_events.TOPIC, draft["id"])
    assert [event["type"].rpartition(".")[2] for event in events] == [
        "created",
        "activated",
        "paused",
        "activated",
        "cancelled",
    ]
    assert events[1]["correlationid"] == "trace-1"
    assert events[-1]["data"]["justification"] == "done"


async def _types(api: ControlApi, campaign_id: str, count: int) -> bool:
    return len(await api.records(domain_events.TOPIC, campaign_id)) >= count


async def test_an_active_campaign_before_its_start_is_scheduled(api: ControlApi) -> None:
    draft = await api.create()
    activated = await api.call("POST", f"/campaigns/{draft['id']}/activate")
    assert (activated.body["status"], activated.body["effectiveStatus"]) == ("ACTIVE", "SCHEDULED")
    free = await api.create(settings={"channels": ["WEB"]})
    assert (await api.call("POST", f"/campaigns/{free['id']}/activate")).body["warnings"]


async def test_of_many_writers_with_one_version_one_wins(api: ControlApi) -> None:
    campaign = await api.active()
    answers = await asyncio.gather(*(api.put(campaign, description=f"by {n}") for n in range(8)))
    assert sorted(answer.status for answer in answers) == [200] + [412] * 7
    current = await api.get(campaign["id"])
    assert current["version"] == campaign["version"] + 1
    path = f"/campaigns/{campaign['id']}"
    assert (await api.call("PUT", path, campaign)).status == 428
    assert (await api.call("PUT", path, campaign, headers={"If-Match": "x"})).status == 400
    assert (await api.call("POST", f"{path}/pause", headers={"If-Match": '"1"'})).status == 412
    refused = await api.put(current, type="COUPON", targetingRules=["other"])
    assert refused.status == 409
    assert {error["pointer"] for error in refused.body["errors"]} == {"/type", "/targetingRules"}


async def test_names_are_unique_whatever_their_case(api: ControlApi) -> None:
    name = f"Ünique {new_id()}"
    first = await api.create(name=name)
    assert (await api.call("POST", "/campaigns", body(name=name.upper()))).status == 409
    both = await asyncio.gather(
        *(api.call("POST", "/campaigns", body(name=f"{name} at once")) for _ in range(4))
    )
    assert sorted(answer.status for answer in both) == [201, 409, 409, 409]
    await api.call("POST", f"/campaigns/{first['id']}/stop", {"justification": "free the name"})
    await api.create(name=name)


async def test_nothing_of_another_organization_is_visible(api: ControlApi) -> None:
    other = await api.other_organization()
    campaign = await api.create()
    made = await api.call("POST", "/api-keys", {"name": "k", "kind": "server"})
    path = f"/campaigns/{campaign['id']}"
    for method, at, sent in [
        ("GET", path, None),
        ("PUT", path, campaign),
        ("DELETE", path, None),
        ("POST", f"{path}/activate", {}),
        ("POST", f"{path}/pause", {}),
        ("POST", f"{path}/stop", {"justification": "x"}),
        ("GET", f"{path}/metrics", None),
        ("DELETE", f"/api-keys/{made.body['id']}", None),
    ]:
        answer = await api.call(method, at, sent, token=other, headers={"If-Match": '"1"'})
        assert answer.status == 404, (method, at, answer)
    assert (await api.call("GET", "/campaigns", token=other)).body["items"] == []
    seen = await api.call("POST", "/campaigns", body(name=campaign["name"]), token=other)
    assert seen.status == 201
    assert (await api.get(campaign["id"]))["version"] == 1
    nobody = mint_admin_token(SECRET, new_id(), new_id(), now=now())
    assert (await api.call("POST", "/campaigns", body(), token=nobody)).status == 401


async def test_a_token_is_needed_everywhere_but_for_docs_and_health(api: ControlApi) -> None:
    expired = mint_admin_token(SECRET, now=now() - 2 * DAY, lifetime=timedelta(hours=1))
    foreign = mint_admin_token(SECRET[::-1], now=now())
    for path in ("/campaigns", f"/campaigns/{new_id()}", "/api-keys", "/organization", "/auth/me"):
        for token in (expired, foreign, "none"):
            answer = await api.call("GET", path, token=token)
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    for path in ("/health", "/ready", "/metrics", "/docs", "/api/v1/openapi.json", "/problems/validation"):
        assert (await api.page(path)).status == 200, path
    page = (await api.page("/docs")).body
    assert not [part for part in ("<script", "src=", "@import", "='http", '="http') if part in page]
    me = await api.call("GET", "/auth/me")
    assert (me.body["id"], me.body["roles"]) == (api.made.admin_id, ["admin"])


async def test_ninety_percent_pauses_and_a_hundred_completes(api: ControlApi) -> None:
    campaign = await api.active()
    path = f"/campaigns/{campaign['id']}"
    await api.cross(campaign, Threshold.BUDGET_90)
    paused = await api.until_status(campaign["id"], "PAUSED")
    assert paused["statusReason"] == "BUDGET_90"
    refused = await api.call("POST", f"{path}/activate")
    assert (refused.status, refused.body["type"]) == (409, "/problems/budget-not-acknowledged")
    assert (refused.body["currentStatus"], refused.body["allowedTransitions"]) == (
        "PAUSED",
        ["activate", "stop"],
    )
    resumed = await api.call("POST", f"{path}/activate", {"acknowledgeBudget": True})
    assert (resumed.body["status"], resumed.body["acknowledgedThreshold"]) == ("ACTIVE", 90)
    await api.cross(campaign, Threshold.BUDGET_90, version=2)
    await api.cross(campaign, Threshold.BUDGET_90, Threshold.BUDGET_100, version=3)
    done = await api.until_status(campaign["id"], "COMPLETED")
    assert (done["statusReason"], done["version"]) == ("BUDGET_100", resumed.body["version"] + 1)

    async def announced() -> list[str]:
        events = await api.records(domain_events.TOPIC, campaign["id"])
        crossed = [event["data"]["threshold"] for event in events if event["type"].endswith("crossed")]
        return crossed if len(crossed) >= 2 else []

    assert await eventually(announced, 30) == ["90", "100"]


async def test_gates_of_an_old_budget_version_change_no_status(api: ControlApi) -> None:
    campaign = await api.active()
    raised = await api.put(campaign, budget={"amount": 20000, "currency": "EUR"})
    assert raised.body["budgetVersion"] == 2
    await api.cross(campaign, Threshold.BUDGET_90, Threshold.BUDGET_100)
    marker = await api.active()
    await api.cross(marker, Threshold.MAX_IMPRESSIONS)
    assert (await api.until_status(marker["id"], "COMPLETED"))["statusReason"] == "MAX_IMPRESSIONS"

    async def announced() -> bool:
        events = await api.records(domain_events.TOPIC, campaign["id"])
        return any(event["type"].endswith("crossed") for event in events)

    assert await eventually(announced, 30)
    assert (await api.get(campaign["id"]))["status"] == "ACTIVE"


async def test_gates_that_came_while_it_was_down_are_applied_afterwards(api: ControlApi) -> None:
    campaigns = [await api.active() for _ in range(3)]
    assert api.stop() == 0
    await api.cross(campaigns[0], Threshold.BUDGET_90)
    await api.cross(campaigns[1], Threshold.BUDGET_90, Threshold.BUDGET_100)
    await api.start()
    assert (await api.until_status(campaigns[0]["id"], "PAUSED", 30))["statusReason"] == "BUDGET_90"
    assert (await api.until_status(campaigns[1]["id"], "COMPLETED", 30))["statusReason"] == "BUDGET_100"
    assert (await api.get(campaigns[2]["id"]))["status"] == "ACTIVE"


async def test_an_end_date_completes_a_campaign_and_late_events_count_from_it(api: ControlApi) -> None:
    end = (now() + timedelta(seconds=8)).replace(microsecond=0)
    active = await api.active(endDate=end.isoformat(), startDate=(now() + timedelta(seconds=6)).isoformat())
    done = await api.until_status(active["id"], "COMPLETED", 30)
    assert done["statusReason"] == "END_DATE"
    row = (await api.sql("SELECT updated_at FROM control.campaigns WHERE id = $1::uuid", active["id"]))[0]
    assert row["updated_at"] >= end
    state = (await api.records(campaign_state.TOPIC, active["id"]))[-1]
    assert state["status"] == "COMPLETED"
    assert abs(state["closedSince"] - end.timestamp() * 1000) < 2


async def test_a_lowered_budget_meets_what_is_billed(api: ControlApi) -> None:
    campaign = await api.active()
    await api.spend(campaign["id"], 90_000_000)
    below = await api.put(campaign, budget={"amount": 89.99, "currency": "EUR"})
    assert below.status == 409
    assert below.body["errors"][0]["pointer"] == "/budget"
    lowered = await api.put(campaign, budget={"amount": 100, "currency": "EUR"})
    assert (lowered.body["status"], lowered.body["statusReason"]) == ("PAUSED", "BUDGET_90")
    crossings = await api.sql("SELECT * FROM ledger.crossings WHERE campaign_id = $1::uuid", campaign["id"])
    assert [(row["budget_version"], row["threshold"], row["log_offset"]) for row in crossings] == [
        (2, "90", -1)
    ]
    exact = await api.put(lowered.body, budget={"amount": 90, "currency": "EUR"})
    assert (exact.body["status"], exact.body["statusReason"]) == ("COMPLETED", "BUDGET_100")
    account = (await api.sql("SELECT * FROM ledger.accounts WHERE campaign_id = $1::uuid", campaign["id"]))[0]
    assert (account["budget"], account["budget_version"]) == (90_000_000, 3)


async def test_metrics_come_from_the_ledger(api: ControlApi) -> None:
    campaign = await api.active()
    await api.sql(
        "UPDATE ledger.accounts SET impressions = 15420, clicks = 1234, conversions = 89, "
        "billed = 890000000, revenue = 4450000000, overdelivery = 12500, "
        "billable_impressions = 15000, invalid_clicks = 2, "
        "last_received_at = now() WHERE campaign_id = $1::uuid",
        campaign["id"],
    )
    await api.sql("INSERT INTO ledger.unbilled VALUES ($1::uuid, 'PAUSED', 3)", campaign["id"])
    metrics = (await api.call("GET", f"/campaigns/{campaign['id']}/metrics")).body
    assert (metrics["ctr"], metrics["conversionRate"], metrics["roi"], metrics["roas"]) == (
        8.0,
        7.2,
        400.0,
        5.0,
    )
    assert metrics["overdeliveryCost"] == {"amount": 0.0125, "currency": "EUR"}
    assert (metrics["unbilled"], metrics["invalidTraffic"]["clicks"]) == ({"PAUSED": 3}, 2)
    assert metrics["budget"]["percent"] == 8.9
    assert (await api.get(campaign["id"]))["metrics"] == metrics
    listed = await api.call("GET", "/campaigns?include=metrics&limit=1000")
    assert next(item for item in listed.body["items"] if item["id"] == campaign["id"])["metrics"] == metrics
    view = await api.sql(
        "SELECT * FROM control.campaign_metrics WHERE campaign_id = $1::uuid", campaign["id"]
    )
    assert (view[0]["impressions"], view[0]["cost_amount"]) == (15420, 890)


async def test_a_list_is_filtered_ordered_and_read_page_by_page(api: ControlApi) -> None:
    mark = new_id()
    for n in range(7):
        await api.create(name=f"{mark} {n}", type="COUPON" if n % 2 else "LOYALTY")
    for sort in ("name", "-name", "createdAt", "-updatedAt", "startDate", "-endDate", "budget", "status"):
        seen: list[str] = []
        path = f"/campaigns?q={mark}&limit=3&sort={sort}"
        while path:
            page = await api.call("GET", path)
            assert page.status == 200, page
            seen += [item["name"] for item in page.body["items"]]
            link = page.headers.get("Link", "")
            path = link.removeprefix("</api/v1").partition(">")[0] if link else ""
        assert len(seen) == len(set(seen)) == 7, sort
        if sort == "-name":
            assert seen == sorted(seen, reverse=True)
    for query, count in {
        "type=COUPON": 3,
        "type=COUPON&type=LOYALTY": 7,
        "status=ACTIVE": 0,
        "channel=SMS": 0,
        "channel=SMS&channel=WEB": 7,
        "startsAfter=2020-01-01T00:00:00Z": 7,
        "startsBefore=2020-01-01T00:00:00Z": 0,
        "endsAfter=2020-01-01T00:00:00%2B02:00": 7,
        "endsBefore=2020-01-01T00:00:00Z": 0,
        "createdAfter=2020-01-01T00:00:00Z": 7,
        "createdBefore=2020-01-01T00:00:00Z": 0,
        "updatedAfter=2020-01-01T00:00:00Z": 7,
    }.items():
        found = await api.call("GET", f"/campaigns?q={mark}&{query}")
        assert len(found.body["items"]) == count, query


async def test_deleting_leaves_the_account_and_tells_the_doors(api: ControlApi) -> None:
    draft = await api.create()
    assert (await api.call("DELETE", f"/campaigns/{draft['id']}")).status == 204
    assert (await api.call("GET", f"/campaigns/{draft['id']}")).status == 404
    assert await api.sql("SELECT 1 FROM ledger.accounts WHERE campaign_id = $1::uuid", draft["id"])

    async def gone() -> bool:
        return bool((await api.records(campaign_state.TOPIC, draft["id"]))[-1].get("gone"))

    assert await eventually(gone, 30)
    active = await api.active()
    assert (await api.call("DELETE", f"/campaigns/{active['id']}")).status == 409
    await api.call("POST", f"/campaigns/{active['id']}/pause")
    await api.spend(active["id"], 0)
    assert (await api.call("DELETE", f"/campaigns/{active['id']}")).status == 409


async def test_keys_are_shown_once_and_revoked_at_the_doors(api: ControlApi) -> None:
    made = await api.call("POST", "/api-keys", {"name": "shop", "kind": "publishable"})
    assert made.status == 201
    clear = made.body["key"]
    assert clear.startswith("pk_")
    listed = (await api.call("GET", "/api-keys")).body["items"]
    assert clear not in str(listed)
    assert (await api.call("DELETE", f"/api-keys/{made.body['id']}")).status == 204
    assert (await api.call("DELETE", f"/api-keys/{made.body['id']}")).status == 204

    async def published() -> list[tuple[int, bool]]:
        values = await api.records(access_keys.TOPIC, hash_key(clear))
        told = [(value["version"], value["revoked"]) for value in values]
        return told if len(told) >= 2 else []

    assert await eventually(published, 30) == [(1, False), (2, True)]
    wider = {"name": "x", "kind": "publishable", "scopes": ["events:cost"]}
    assert (await api.call("POST", "/api-keys", wider)).status == 422
    assert await api.records(access_keys.TOPIC, hash_key(api.made.write_key))


async def test_an_organization_goes_back_as_it_was_read(api: ControlApi) -> None:
    found = await api.call("GET", "/organization")
    again = await api.call("PUT", "/organization", found.body, headers={"If-Match": found.headers["ETag"]})
    assert again.status == 200, again
    kept = {"id", "name", "timeZone", "defaultCurrency", "limits", "createdAt"}
    assert {name: again.body[name] for name in kept} == {name: found.body[name] for name in kept}


async def test_origins_of_a_key_are_kept_as_browsers_send_them(api: ControlApi) -> None:
    asked = ["https://Shop.Example:443", "https://shop.example", "http://localhost:3000", "http://a:80"]
    made = await api.call("POST", "/api-keys", {"name": "k", "kind": "publishable", "allowedOrigins": asked})
    assert made.status == 201, made
    assert made.body["allowedOrigins"] == ["https://shop.example", "http://localhost:3000", "http://a"]


async def test_prometheus_is_told_one_content_type(api: ControlApi) -> None:
    assert (await api.page("/metrics")).headers["Content-Type"] == CONTENT_TYPE_LATEST


async def test_methods_that_somebody_makes_up_leave_nothing_behind(api: ControlApi) -> None:
    for number in range(5):
        await api.call(f"MADEUP{number}", "/campaigns")
    text = (await api.page("/metrics")).body
    assert 'method="other"' in text
    assert "MADEUP" not in text


async def test_limits_and_approval_of_an_organization(api: ControlApi) -> None:
    token = await api.other_organization()
    found = await api.call("GET", "/organization", token=token)
    changed = await api.call(
        "PUT",
        "/organization",
        {
            "name": "Other",
            "timeZone": "Europe/Berlin",
            "limits": {"EUR": {"largestBudget": 500, "approvalThreshold": 100}},
        },
        token=token,
        headers={"If-Match": found.headers["ETag"]},
    )
    assert changed.status == 200, changed
    over = await api.call("POST", "/campaigns", body(), token=token)
    assert (over.status, over.body["errors"][0]["detail"]) == (
        422,
        "the organization's largest budget is 500.00 EUR",
    )
    made = await api.call("POST", "/campaigns", body(budget={"amount": 200, "currency": "EUR"}), token=token)
    path = f"/campaigns/{made.body['id']}"
    refused = await api.call("POST", f"{path}/activate", token=token)
    assert (refused.status, refused.body["type"]) == (409, "/problems/approval-required")
    lower = made.body | {"budget": {"amount": 100, "currency": "EUR"}}
    assert (await api.call("PUT", path, lower, token=token, headers={"If-Match": '"1"'})).status == 200
    assert (await api.call("POST", f"{path}/activate", token=token)).status == 200
    current = (await api.call("GET", path, token=token)).body
    waiting = await api.call(
        "PUT",
        path,
        current | {"budget": {"amount": 300, "currency": "EUR"}},
        token=token,
        headers={"If-Match": f'"{current["version"]}"'},
    )
    assert waiting.status == 200
    assert waiting.body["budget"]["amount"] == 100
    assert waiting.body["pendingBudget"] == {"amount": 300, "currency": "EUR"}


BAD_BODIES = [
    b"", b"{", b"\xff\xfe", b"null", b"[]", b"1", b'"x"', b"{}", b'{"name": "\\ud800"}',
    b'{"name": "\\u0000"}',
    b'{"id": ' + b"[" * 50_000, b'{"budget": {"amount": 1e999999999, "currency": "EUR"}}',
    b'{"budget": {"amount": "NaN", "currency": "EUR"}}', b'{"budget": {"amount": 1, "currency": "\\u0000"}}',
    b'{"budget": {"amount": 99999999999999999999999, "currency": "EUR"}}',
    b'{"startDate": "0001-01-01T00:00:00+14:00"}',
    b'{"startDate": "9999-12-31T23:59:59-14:00"}', b'{"settings": {"maxImpressions": 99999999999999999999}}',
    b'{"settings": {"schedulingRules": [{"days": ["MON"], "timeZone": "../../etc/passwd"}]}}',
    b'{"settings": {"channels": {}}}', b'{"targetingRules": [[[]]]}',
]  # fmt: skip


async def test_bad_input_gets_its_own_answer_and_never_a_500(api: ControlApi) -> None:
    campaign = await api.create()
    path = f"/campaigns/{campaign['id']}"
    routes = [
        ("POST", "/campaigns"), ("PUT", path), ("POST", f"{path}/activate"), ("POST", f"{path}/pause"),
        ("POST", f"{path}/stop"), ("POST", "/api-keys"), ("PUT", "/organization"),
    ]  # fmt: skip
    for method, at in routes:
        for sent in BAD_BODIES:
            answer = await api.call(method, at, data=sent, headers={"If-Match": '"999"'})
            assert 200 <= answer.status < 500, (method, at, sent[:80], answer)
    version = (await api.call("GET", "/organization")).headers["ETag"]
    for limits in (
        {"\0": {}},
        {"XXX": {}},
        {"EUR": {"largestBudget": -1}},
        {"EUR": {"approvalThreshold": 0.001}},
    ):
        answer = await api.call(
            "PUT", "/organization", {"name": "n", "limits": limits}, headers={"If-Match": version}
        )
        assert answer.status == 422, limits
    too_large = await api.call(
        "POST", "/campaigns", data=b" " * (1 << 20) + b"{}", headers={"Connection": "close"}
    )
    assert too_large.status == 413
    for query in (
        "limit=0",
        "limit=x",
        "cursor=%00",
        "q=%00",
        "status=",
        "sort=;",
        "endsAfter=x",
        "colour=red",
    ):
        assert (await api.call("GET", f"/campaigns?{query}")).status == 400, query
    assert (await api.call("GET", f"/campaigns?q={'%25' * 200}")).status == 200
    for at in ("/campaigns/x", "/campaigns/%00", f"/campaigns/{'9' * 400}", "/nowhere"):
        assert (await api.call("GET", at)).status == 404, at
    assert (await api.call("GET", f"{path}?x=1")).status == 400
    assert (await api.call("PATCH", path)).status == 405
    problem = await api.call(
        "POST",
        "/campaigns",
        {"name": "", "settings": {"channels": ["FAX"]}, "budget": {"amount": -1, "currency": "EUR"}},
    )
    assert problem.status == 422
    assert problem.headers["Content-Type"].startswith("application/problem+json")
    assert {error["pointer"] for error in problem.body["errors"]} >= {
        "/name",
        "/type",
        "/startDate",
        "/targetingRules",
        "/settings/channels/0",
        "/budget/amount",
    }
    assert "request.failed" not in api.log


async def test_each_part_of_a_request_that_is_wrong_is_told(api: ControlApi) -> None:
    nothing = await api.call("POST", "/campaigns")
    assert (nothing.status, nothing.body["detail"]) == (400, "the request needs a body of JSON")
    packed = await api.call("POST", "/campaigns", data=b"{}", headers={"Content-Encoding": "gzip"})
    assert (packed.status, packed.body["type"]) == (415, "/problems/unsupported-media-type")
    twice = await api.call("POST", "/campaigns", data=b'{"name": "a", "name": "b"}')
    assert (twice.status, twice.body["type"]) == (400, "/problems/malformed-request")


async def test_a_body_that_never_ends_is_told_so_and_one_that_breaks_off_is_no_500(api: ControlApi) -> None:
    reader, writer = await _half_a_body(api)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert head.startswith(b"HTTP/1.1 408 ")
    writer.close()
    request_id = new_id()
    _, writer = await _half_a_body(api, request_id)
    writer.close()

    async def answered() -> str | None:
        return next((line for line in api.log.splitlines() if request_id in line), None)

    assert '"status": 400' in await eventually(answered, 10)


async def _half_a_body(
    api: ControlApi, request_id: str = "slow"
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /api/v1/campaigns HTTP/1.1\r\nHost: api\r\nX-Request-ID: {request_id}\r\n"
    token = f"Authorization: Bearer {api.made.admin_token}\r\n"
    writer.write(f'{head}{token}Content-Length: 100\r\n\r\n{{"name"'.encode())
    await writer.drain()
    return reader, writer


async def test_money_is_written_with_the_decimals_of_its_currency(api: ControlApi) -> None:
    settings = {"channels": ["WEB"]}
    for currency, amount, budget, nothing in (
        ("EUR", 10000, "10000.00", "0.00"),
        ("JPY", 10000, "10000", "0"),
        ("KWD", 1.234, "1.234", "0.000"),
    ):
        made = await api.create(budget={"amount": amount, "currency": currency}, settings=settings)
        text = await api.text(f"/campaigns/{made['id']}")
        assert f'"budget":{{"amount":{budget},"currency":"{currency}"}}' in text
        assert f'"price":{{"amount":{nothing},"currency":"{currency}"}}' in text
        assert f'"cost":{{"amount":{nothing},"currency":"{currency}"}}' in text


async def test_the_address_alone_leads_to_the_docs_and_every_problem_has_a_page(api: ControlApi) -> None:
    docs = (await api.page("/")).body
    assert "Flightline control API" in docs
    for kind in (*ALL.values(), *door_problems.ALL):
        assert f"/problems/{kind.name}" in docs
        page = await api.page(f"/problems/{kind.name}")
        assert page.status == 200
        assert escape(kind.title) in page.body


async def test_bootstrap_is_safe_to_repeat(api: ControlApi) -> None:
    environ = {
        "FLIGHTLINE_KAFKA": api.kafka,
        "FLIGHTLINE_POSTGRES": api.dsn,
        "FLIGHTLINE_BIND": "127.0.0.1:1",
        "FLIGHTLINE_JWT_SECRET": SECRET,
    }
    before = await api.sql("SELECT count(*) AS n FROM control.access_keys")
    again = await bootstrap(load(environ), write_key=api.made.write_key, server_key=api.made.server_key)
    assert (again.write_key, again.organization_id) == (api.made.write_key, api.made.organization_id)
    assert (await api.sql("SELECT count(*) AS n FROM control.access_keys"))[0]["n"] == before[0]["n"]


async def test_without_postgres_it_says_so_and_recovers(api: ControlApi) -> None:
    database = api.dsn.rpartition("/")[2]
    server = await asyncpg.connect(api.dsn.rpartition("/")[0] + "/postgres")
    try:
        await server.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')
        await server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database
        )

        async def unavailable() -> bool:
            answer = await api.call("GET", "/campaigns")
            assert answer.status in (200, 503), answer
            return answer.status == 503 and answer.headers["Retry-After"] == "1"

        assert await eventually(unavailable, 10)
        assert (await api.page("/ready")).status == 503
        assert (await api.page("/health")).status == 200
    finally:
        await server.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS true')
        await server.close()

    async def available() -> bool:
        return (await api.page("/ready")).status == 200

    assert await eventually(available, 30)

    async def published() -> bool:
        return bool((await api.active())["propagation"] == "published")

    assert await eventually(published, 30)


async def test_without_kafka_a_transition_is_kept_and_answered_as_pending(
    api: ControlApi, tmp_path: Path
) -> None:
    server, _, database = api.dsn.rpartition("/")
    connection = await asyncpg.connect(api.dsn)
    await connection.execute(f'CREATE DATABASE "{database}_alone"')
    await connection.close()
    alone = await asyncpg.connect(f"{server}/{database}_alone")
    await migrate_postgres(alone)
    await alone.close()
    nowhere = "127.0.0.1:1"
    async with running_control_api(
        nowhere, f"{server}/{database}_alone", tmp_path, path="/health"
    ) as without:
        assert (await without.page("/ready")).status == 503
        assert (await without.active())["propagation"] == "pending"
        assert (
            len(await without.sql("SELECT 1 FROM control.outbox WHERE topic = $1", campaign_state.TOPIC)) == 2
        )


async def test_a_thousand_campaigns_are_one_page(api: ControlApi) -> None:
    token = await api.other_organization()
    made = await api.call("POST", "/campaigns", body(), token=token)
    await api.sql(
        "WITH made AS (INSERT INTO control.campaigns (id, organization_id, name, type, targeting_rules, "
        "start_date, currency, settings, created_by) SELECT gen_random_uuid(), organization_id, name || n, "
        "type, targeting_rules, start_date, currency, settings, created_by FROM control.campaigns, "
        "generate_series(1, 999) AS n WHERE id = $1::uuid "
        "RETURNING id, organization_id, currency) "
        "INSERT INTO ledger.accounts (campaign_id, organization_id, currency) SELECT * FROM made",
        made.body["id"],
    )
    page = await api.call("GET", "/campaigns?limit=1000&include=metrics", token=token)
    assert len({item["id"] for item in page.body["items"]}) == 1000
    assert page.body["nextCursor"] is None
