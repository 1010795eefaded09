"""Budgets above the threshold: asked for by one person, decided by another one."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from control_api.auth.tokens import Claims, Tokens
from control_api.domain.permissions import Role
from schemas import campaign_state, domain_events
from schemas.ids import new_id
from tests.integration.access import make_user
from tests.integration.control import (
    DAY,
    SECRET,
    Answer,
    ControlApi,
    body,
    eventually,
    now,
    running_control_api,
)

LIMITS = {"EUR": {"largestBudget": 5000, "approvalThreshold": 1000}}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(
    kafka: str, postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlApi]:
    async with running_control_api(
        kafka, postgres_dsn, Path(tmp_path_factory.mktemp("approvals"))
    ) as running:
        await limit(running, LIMITS)
        yield running


async def limit(api: ControlApi, limits: dict[str, Any]) -> None:
    found = await api.call("GET", "/organization")
    changed = await api.call(
        "PUT", "/organization", found.body | {"limits": limits}, headers={"If-Match": found.headers["ETag"]}
    )
    assert changed.status == 200, changed


class Person(NamedTuple):
    """A user of the organization, with a token."""

    api: ControlApi
    id: str
    token: str

    async def call(self, method: str, path: str, json: Any = None, **options: Any) -> Answer:
        return await self.api.call(method, path, json, token=self.token, **options)

    async def put(self, campaign: dict[str, Any], **changes: Any) -> Answer:
        headers = {"If-Match": f'"{campaign["version"]}"'}
        return await self.call("PUT", f"/campaigns/{campaign['id']}", campaign | changes, headers=headers)


async def person(api: ControlApi, *roles: Role) -> Person:
    user = await make_user(api, *roles, password=None)
    claims = Claims(user["id"], api.made.organization_id, tuple(roles))
    return Person(api, user["id"], Tokens(SECRET).mint(claims, now=now(), lifetime=DAY))


def eur(amount: float) -> dict[str, Any]:
    return {"amount": amount, "currency": "EUR"}


async def a_draft(editor: Person, amount: float = 2000, **changes: Any) -> dict[str, Any]:
    made = await editor.call("POST", "/campaigns", body(budget=eur(amount), **changes))
    assert made.status == 201, made
    return dict(made.body)


async def asked(editor: Person, campaign: dict[str, Any], comment: str | None = None) -> dict[str, Any]:
    answer = await editor.call("POST", f"/campaigns/{campaign['id']}/approvals", {"comment": comment})
    assert answer.status == 201, answer
    return dict(answer.body)


async def decided(by: Person, approval: dict[str, Any], how: str, comment: str | None = None) -> Answer:
    path = f"/campaigns/{approval['campaignId']}/approvals/{approval['id']}/{how}"
    return await by.call("POST", path, {"comment": comment})


async def events(api: ControlApi, campaign_id: str, count: int) -> list[dict[str, Any]]:
    async def look() -> list[dict[str, Any]] | None:
        found = await api.records(domain_events.TOPIC, campaign_id)
        return found if len(found) >= count else None

    return await eventually(look, 30)


def names(found: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("flightline.campaign.") for event in found]


async def test_an_approved_draft_is_activated(api: ControlApi) -> None:
    editor, approver = await person(api, Role.EDITOR), await person(api, Role.APPROVER)
    draft = await a_draft(editor)
    path = f"/campaigns/{draft['id']}"
    tried = (await editor.call("POST", f"{path}/activate?dryRun=true")).body
    assert tried["problem"]["type"] == "/problems/approval-required"
    approval = await asked(editor, draft, "please")
    assert (approval["state"], approval["budget"], approval["askedBy"]) == ("pending", eur(2000), editor.id)
    assert approval["forPendingBudget"] is False
    twice = await editor.call("POST", f"{path}/approvals")
    assert (twice.status, twice.body["type"]) == (409, "/problems/approval-asked")
    done = await decided(approver, approval, "approve", "good")
    assert (done.status, done.body["state"], done.body["decidedBy"]) == (200, "approved", approver.id)
    again = await decided(approver, approval, "reject")
    assert (again.status, again.body["type"]) == (409, "/problems/approval-decided")
    activated = await editor.call("POST", f"{path}/activate")
    assert (activated.status, activated.body["status"]) == (200, "ACTIVE")
    told = await events(api, draft["id"], 5)
    assert names(told) == ["created", "approval-requested", "approval-approved", "updated", "activated"]
    assert told[2]["data"]["approvalId"] == approval["id"]
    entries = await api.sql(
        "SELECT action, actor, reason FROM control.audit WHERE subject_id = $1 ORDER BY seq", draft["id"]
    )
    assert [(row["action"], row["actor"]) for row in entries] == [
        ("campaign.created", editor.id),
        ("campaign.approval-requested", editor.id),
        ("campaign.updated", approver.id),
        ("campaign.approval-approved", approver.id),
        ("campaign.activated", editor.id),
    ]
    assert entries[3]["reason"] == "good"
    assert (await editor.call("GET", f"{path}/approvals")).body["items"] == [done.body]


async def test_the_approvals_of_a_campaign_are_listed_in_pages(api: ControlApi) -> None:
    editor = await person(api, Role.EDITOR)
    draft, made = await a_draft(editor), []
    for amount in (3000, 4000, 5000):
        draft = (await editor.put(draft, budget=eur(amount))).body
        made.append((await asked(editor, draft))["id"])
    path, listed = f"/campaigns/{draft['id']}/approvals?limit=2", []
    while path:
        answer = await editor.call("GET", path)
        listed.append([item["id"] for item in answer.body["items"]])
        cursor = answer.body["nextCursor"]
        path = f"/campaigns/{draft['id']}/approvals?limit=2&cursor={cursor}" if cursor else ""
    assert listed == [made[:0:-1], made[:1]]
    waiting = await editor.call("GET", f"/campaigns/{draft['id']}/approvals?state=pending")
    assert [item["id"] for item in waiting.body["items"]] == made[2:]


async def test_neither_who_asked_nor_who_changed_the_budget_last_decides(api: ControlApi) -> None:
    both = Role.EDITOR, Role.APPROVER
    maker, asker, approver = await person(api, *both), await person(api, *both), await person(api, *both)
    draft = await a_draft(maker)
    approval = await asked(asker, draft)
    for refused in (maker, asker):
        for how in ("approve", "reject"):
            answer = await decided(refused, approval, how)
            assert (answer.status, answer.body["type"]) == (403, "/problems/forbidden")
    assert (await decided(await person(api, Role.EDITOR), approval, "approve")).status == 403
    assert (await decided(approver, approval, "approve")).status == 200
    # Whoever touches something else has not changed the budget.
    current = await api.get(draft["id"])
    assert (await approver.put(current, description="other words")).status == 200
    assert (await maker.call("POST", f"/campaigns/{draft['id']}/activate")).status == 200


async def test_any_change_of_the_budget_withdraws_the_approval(api: ControlApi) -> None:
    editor, approver = await person(api, Role.EDITOR), await person(api, Role.APPROVER)
    settings = body()["settings"]
    changes: list[dict[str, Any]] = [
        {"budget": eur(1999)},
        {"budget": {"amount": 2000, "currency": "USD"},
         "settings": settings | {"pricing": {"model": "CPM", "price": {"amount": 1, "currency": "USD"}}}},
        {"settings": settings | {"budgetLimit": eur(1500)}},
        {"settings": settings | {"maxImpressions": 5}},
        {"budget": None},
    ]  # fmt: skip
    await limit(api, {"EUR": {"approvalThreshold": 1000}, "USD": {"approvalThreshold": 10}})
    try:
        for change in changes:
            for state in ("pending", "approved"):
                draft = await a_draft(editor)
                approval = await asked(editor, draft)
                if state == "approved":
                    await decided(approver, approval, "approve")
                changed = await editor.put(await api.get(draft["id"]), **change)
                assert changed.status == 200, changed
                listed = (await editor.call("GET", f"/campaigns/{draft['id']}/approvals")).body["items"]
                assert [found["state"] for found in listed] == ["withdrawn"], (change, state)
                late = await decided(approver, approval, "approve")
                assert late.body["type"] == "/problems/approval-decided"
                refused = await editor.call("POST", f"/campaigns/{draft['id']}/activate")
                assert refused.body["type"] == "/problems/approval-required", (change, state)
        assert names(await events(api, draft["id"], 6))[-2:] == ["updated", "approval-withdrawn"]
        kept = await a_draft(editor)
        approval = await asked(editor, kept)
        assert (await editor.put(kept, name=f"other {new_id()}")).status == 200
        assert (await decided(approver, approval, "approve")).status == 200
    finally:
        await limit(api, LIMITS)


async def running(editor: Person, amount: float = 500) -> dict[str, Any]:
    draft = await a_draft(editor, amount)
    answer = await editor.call("POST", f"/campaigns/{draft['id']}/activate", {"startNow": True})
    assert answer.status == 200, answer
    return dict(answer.body)


async def test_an_approved_pending_budget_becomes_the_budget(api: ControlApi) -> None:
    editor, approver = await person(api, Role.EDITOR), await person(api, Role.APPROVER)
    campaign = await running(editor)
    waiting = await editor.put(campaign, budget=eur(3000))
    assert waiting.body["pendingBudget"] == eur(3000)
    approval = await asked(editor, campaign)
    assert (approval["budget"], approval["forPendingBudget"]) == (eur(3000), True)
    assert (await decided(approver, approval, "approve")).status == 200
    after = await api.get(campaign["id"])
    assert (after["budget"], after["pendingBudget"], after["budgetVersion"]) == (eur(3000), None, 2)
    account = await api.sql("SELECT * FROM ledger.accounts WHERE campaign_id = $1::uuid", campaign["id"])
    assert (account[0]["budget"], account[0]["budget_version"]) == (3_000_000_000, 2)

    async def told() -> bool:
        states = await api.records(campaign_state.TOPIC, campaign["id"])
        return bool(states[-1]["budget"] == 3_000_000_000)

    assert await eventually(told, 30)


async def test_an_approved_budget_is_compared_with_what_is_billed(api: ControlApi) -> None:
    editor, approver = await person(api, Role.EDITOR), await person(api, Role.APPROVER)
    campaign = await running(editor)
    await editor.put(campaign, budget=eur(2000))
    approval = await asked(editor, campaign)
    # As if a higher budget had run before: more is billed than the old budget would have allowed.
    await api.sql("UPDATE ledger.accounts SET budget = NULL WHERE campaign_id = $1::uuid", campaign["id"])
    await api.spend(campaign["id"], 2_000_000_001)
    below = await decided(approver, approval, "approve")
    assert (below.status, below.body["errors"][0]["pointer"]) == (409, "/budget")
    await api.spend(campaign["id"], 1_800_000_000)
    assert (await decided(approver, approval, "approve")).status == 200
    after = await api.get(campaign["id"])
    assert (after["status"], after["statusReason"], after["budgetVersion"]) == ("PAUSED", "BUDGET_90", 2)
    crossings = await api.sql("SELECT * FROM ledger.crossings WHERE campaign_id = $1::uuid", campaign["id"])
    assert [(row["budget_version"], row["threshold"]) for row in crossings] == [(2, "90")]


async def test_a_limit_of_the_organization_holds_at_approval_too(api: ControlApi) -> None:
    editor, approver = await person(api, Role.EDITOR), await person(api, Role.APPROVER)
    draft = await a_draft(editor, 4000)
    approval = await asked(editor, draft)
    await limit(api, {"EUR": {"largestBudget": 3000, "approvalThreshold": 1000}})
    try:
        refused = await decided(approver, approval, "approve")
        assert (refused.status, refused.body["errors"][0]["pointer"]) == (409, "/budget")
    finally:
        await limit(api, LIMITS)
    assert (await decided(approver, approval, "approve")).status == 200


async def test_a_rejected_budget_is_given_up(api: ControlApi) -> None:
    editor, approver = await person(api, Role.EDITOR), await person(api, Role.APPROVER)
    campaign = await running(editor)
    await editor.put(campaign, budget=eur(3000))
    approval = await asked(editor, campaign)
    rejected = await decided(approver, approval, "reject", "too much")
    assert (rejected.body["state"], rejected.body["decideComment"]) == ("rejected", "too much")
    after = await api.get(campaign["id"])
    assert (after["budget"], after["pendingBudget"], after["budgetVersion"]) == (eur(500), None, 1)
    nothing = await editor.call("POST", f"/campaigns/{campaign['id']}/approvals")
    assert (nothing.status, nothing.body["type"]) == (409, "/problems/approval-not-needed")
    draft = await a_draft(editor)
    assert (await decided(approver, await asked(editor, draft), "reject")).status == 200
    assert (await editor.call("POST", f"/campaigns/{draft['id']}/activate")).status == 409
    assert (await decided(approver, await asked(editor, draft), "approve")).status == 200
    assert (await editor.call("POST", f"/campaigns/{draft['id']}/activate")).status == 200


async def test_a_campaign_that_ends_takes_its_request_with_it(api: ControlApi) -> None:
    editor, approver = await person(api, Role.EDITOR), await person(api, Role.APPROVER)
    stopped, deleted = await a_draft(editor), await a_draft(editor)
    requests = [await asked(editor, stopped), await asked(editor, deleted)]
    await editor.call("POST", f"/campaigns/{stopped['id']}/stop", {"justification": "no"})
    assert (await editor.call("DELETE", f"/campaigns/{deleted['id']}")).status == 204
    late = await decided(approver, requests[0], "approve")
    assert late.body["type"] == "/problems/approval-decided"
    assert (await decided(approver, requests[1], "approve")).status == 404
    pending = await api.sql(
        "SELECT state FROM control.approvals WHERE id = ANY($1::uuid[])", [found["id"] for found in requests]
    )
    assert [row["state"] for row in pending] == ["withdrawn", "withdrawn"]


async def test_of_approval_and_change_at_once_one_comes_first(api: ControlApi) -> None:
    editor = await person(api, Role.EDITOR)
    approvers = [await person(api, Role.APPROVER) for _ in range(4)]
    for _ in range(5):
        draft = await a_draft(editor)
        approval = await asked(editor, draft)
        changed, *answers = await asyncio.gather(
            editor.put(draft, budget=eur(1500)),
            *(decided(approver, approval, "approve") for approver in approvers),
        )
        approved = [answer for answer in answers if answer.status == 200]
        assert len(approved) <= 1
        assert all(answer.status in (200, 409) for answer in answers)
        # Approval moves the version, so whoever comes second is told.
        assert changed.status == (412 if approved else 200)
        state = (await editor.call("GET", f"/campaigns/{draft['id']}/approvals")).body["items"][0]["state"]
        assert state == ("approved" if approved else "withdrawn")


async def test_what_waits_is_listed_page_by_page(api: ControlApi) -> None:
    editor, approver = await person(api, Role.EDITOR), await person(api, Role.APPROVER)
    requests = [await asked(editor, await a_draft(editor)) for _ in range(5)]
    await decided(approver, requests[0], "reject")
    seen: list[dict[str, Any]] = []
    path = "/approvals?state=pending&limit=2"
    while path:
        page = await approver.call("GET", path)
        assert page.status == 200, page
        seen += page.body["items"]
        link = page.headers.get("Link", "")
        path = link.removeprefix("</api/v1").partition(">")[0] if link else ""
    ids = [found["id"] for found in seen]
    assert ids == sorted(ids, reverse=True)
    assert len(ids) == len(set(ids))
    assert {found["state"] for found in seen} == {"pending"}
    assert {request["id"] for request in requests[1:]} <= set(ids)
    both = await approver.call("GET", "/approvals?state=pending&state=rejected&limit=1000")
    assert {request["id"] for request in requests} <= {found["id"] for found in both.body["items"]}
    for wrong in ("state=maybe", "cursor=x", "limit=0", "colour=red"):
        assert (await approver.call("GET", f"/approvals?{wrong}")).status == 400, wrong


async def test_approvals_of_another_organization_are_not_there(api: ControlApi) -> None:
    editor = await person(api, Role.EDITOR)
    approval = await asked(editor, await a_draft(editor))
    other = await api.other_organization()
    path = f"/campaigns/{approval['campaignId']}/approvals"
    for method, at in (
        ("GET", path),
        ("POST", path),
        ("POST", f"{path}/{approval['id']}/approve"),
        ("POST", f"{path}/{approval['id']}/reject"),
    ):
        assert (await api.call(method, at, token=other)).status == 404, at
    assert (await api.call("GET", "/approvals", token=other)).body["items"] == []
    elsewhere = await a_draft(editor)
    wrong = f"/campaigns/{elsewhere['id']}/approvals/{approval['id']}/approve"
    assert (await api.call("POST", wrong)).status == 404
