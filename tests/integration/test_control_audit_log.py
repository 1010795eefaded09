"""The audit log over the API, and `flightline audit verify` over what somebody did to it in the database."""

import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from os import environ
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import pytest_asyncio

from control_api.domain.audit import AuditEntry, ChainedEntry, breaks
from tests.integration.access import make_user
from tests.integration.control import ControlApi, now, running_control_api


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(
    kafka: str, postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlApi]:
    folder = Path(tmp_path_factory.mktemp("control_audit"))
    async with running_control_api(kafka, postgres_dsn, folder) as running:
        yield running


async def all_pages(api: ControlApi, path: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    while path:
        page = await api.call("GET", path)
        assert page.status == 200, page
        items += page.body["items"]
        link = page.headers.get("Link", "")
        path = link.removeprefix("</api/v1").partition(">")[0] if link else ""
    return items


async def test_the_log_is_searched_newest_first(api: ControlApi) -> None:
    began = now() - timedelta(seconds=1)
    campaign = await api.active()
    await api.call("POST", f"/campaigns/{campaign['id']}/pause", headers={"X-Request-ID": "why-paused"})
    user = await make_user(api, "viewer", password=None)
    everything = await all_pages(api, "/audit?limit=2")
    assert [item["seq"] for item in everything] == list(range(len(everything), 0, -1))
    of_campaign = await all_pages(api, f"/audit?subject={campaign['id']}")
    assert [item["action"] for item in of_campaign] == [
        "campaign.paused",
        "campaign.activated",
        "campaign.created",
    ]
    paused = of_campaign[0]
    assert (paused["correlationId"], paused["actor"]) == ("why-paused", api.made.admin_id)
    assert (paused["before"]["status"], paused["after"]["status"]) == ("ACTIVE", "PAUSED")
    both = await all_pages(api, "/audit?limit=1&action=user.created&action=campaign.paused")
    assert [item["subjectId"] for item in both] == [user["id"], campaign["id"]]
    assert await all_pages(api, f"/audit?actor={user['id']}") == []
    until, since = quote(began.isoformat()), quote((began - timedelta(days=1)).isoformat())
    assert await all_pages(api, f"/audit?from={until}&limit=3") == everything
    assert await all_pages(api, f"/audit?from={since}&to={until}") == []
    at = quote(paused["at"])
    assert [item["seq"] for item in await all_pages(api, f"/audit?from={at}")][-1] == paused["seq"]
    assert paused["seq"] not in [item["seq"] for item in await all_pages(api, f"/audit?to={at}")]
    for wrong in ("limit=0", "cursor=x", "from=yesterday", "colour=red", "actor=a&actor=b", "actor=%00"):
        assert (await api.call("GET", f"/audit?{wrong}")).status == 400, wrong
    for edge in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"):
        assert (await api.call("GET", f"/audit?from={edge}&to={edge}")).status == 200
    assert (await api.call("GET", "/audit?from=0001-01-01T00:00:00%2B14:00")).status == 400
    assert (await api.call("GET", "/audit", token=await api.other_organization())).body["items"] == []


async def test_the_export_is_the_whole_log_and_its_chain_can_be_checked(api: ControlApi) -> None:
    for _ in range(3):
        await make_user(api, "viewer", password=None)
    answer = await api.call("GET", "/audit/export")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/x-ndjson")
    lines = [msgspec.json.decode(line) for line in answer.body.splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert list(reversed(lines)) == await all_pages(api, "/audit?limit=1000")
    raw = [msgspec.json.decode(line, type=dict[str, msgspec.Raw]) for line in answer.body.splitlines()]
    rows = [chained(line, text, api.made.organization_id) for line, text in zip(lines, raw, strict=True)]
    assert list(breaks(rows)) == []
    some = await api.call("GET", "/audit/export?action=user.created&action=nothing")
    assert {msgspec.json.decode(line)["action"] for line in some.body.splitlines()} == {"user.created"}
    assert (await api.call("GET", "/audit/export?limit=1")).status == 400


def chained(line: dict[str, Any], raw: dict[str, msgspec.Raw], organization_id: str) -> ChainedEntry:
    """A line of an export as the entry that its hash covers."""

    def text(name: str) -> str | None:
        return None if line[name] is None else bytes(raw[name]).decode()

    entry = AuditEntry(
        organization_id=organization_id,
        at=msgspec.convert(line["at"], type=type(now())),
        actor=line["actor"],
        action=line["action"],
        subject_type=line["subjectType"],
        subject_id=line["subjectId"],
        reason=line["reason"],
        correlation_id=line["correlationId"],
        address=line["address"],
        before=text("before"),
        after=text("after"),
    )
    return ChainedEntry(line["seq"], entry, bytes.fromhex(line["hash"]))


def verify(dsn: str) -> tuple[int, str]:
    """The exit code of `flightline audit verify`, and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "compose.cli", "audit", "verify"],
        env=dict(environ) | {"FLIGHTLINE_POSTGRES": dsn},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


_ROW = "UPDATE control.audit SET {what} WHERE organization_id = $1::uuid AND seq = {seq}"
_END = "UPDATE control.audit_heads SET seq = 4 WHERE organization_id = $1::uuid"
_REMOVE = "DELETE FROM control.audit WHERE organization_id = $1::uuid AND seq {which}"
_ADD = """
    INSERT INTO control.audit
    SELECT organization_id, seq + 1, at, actor, 'x', subject_type, subject_id, NULL, NULL, NULL, NULL, NULL,
        hash
    FROM control.audit WHERE organization_id = $1::uuid ORDER BY seq DESC LIMIT 1
"""
CLEAN = (
    "DELETE FROM control.audit WHERE organization_id = $1::uuid",
    "DELETE FROM control.audit_heads WHERE organization_id = $1::uuid",
)
TAMPERED: dict[str, tuple[list[str], str]] = {
    "a changed row": ([_ROW.format(what="actor = 'nobody'", seq=3)], "row 3 is not what was written"),
    "a changed hash": ([_ROW.format(what="hash = ''", seq=2)], "row 2 is not what was written"),
    "a removed row": ([_REMOVE.format(which="= 4")], "after row 3 comes row 5"),
    "the first row removed": ([_REMOVE.format(which="= 1")], "after row 0 comes row 2"),
    "two rows swapped": (
        [_ROW.format(what=f"seq = {to}", seq=seq) for seq, to in ((2, 1000), (3, 2), (1000, 3))],
        "row 2 is not what was written",
    ),
    "the tail cut off": ([_REMOVE.format(which="> 4")], "after row 4 there should be"),
    "the tail cut off and the end set back": (
        [_REMOVE.format(which="> 4"), _END],
        "row 4 is not the end that was kept",
    ),
    "only the end set back": ([_END], "row 5 comes after the end"),
    "the end removed": ([CLEAN[1]], "their end is not kept"),
    "all rows removed": ([CLEAN[0]], "after row 0 there should be"),
    "a row added": ([_ADD], "is not what was written"),
}


@pytest.mark.parametrize("what", TAMPERED)
async def test_whatever_is_done_to_the_rows_is_found(api: ControlApi, what: str) -> None:
    token = await api.other_organization()
    for _ in range(6):
        asked = {"name": "k", "kind": "server"}
        assert (await api.call("POST", "/api-keys", asked, token=token)).status == 201
    organization = (await api.call("GET", "/organization", token=token)).body["id"]
    assert verify(api.dsn)[0] == 0
    statements, sentence = TAMPERED[what]
    for statement in statements:
        await api.sql(statement, organization)
    code, told = verify(api.dsn)
    assert code == 1, (what, told)
    (line,) = [line for line in told.splitlines() if organization in line]
    assert line.startswith("broken")
    assert sentence in line
    other = [line for line in told.splitlines() if api.made.organization_id in line]
    assert other[0].startswith("ok"), told
    for statement in CLEAN:
        await api.sql(statement, organization)


async def test_what_is_right_is_told_with_the_end_of_each_log(api: ControlApi) -> None:
    await make_user(api, "viewer", password=None)
    newest = (await api.call("GET", "/audit?limit=1")).body["items"][0]
    code, told = verify(api.dsn)
    assert code == 0
    (line,) = [line for line in told.splitlines() if api.made.organization_id in line]
    assert f"{newest['seq']} rows, end {newest['hash']}" in line
    code, told = verify("postgresql://nobody@127.0.0.1:1/nowhere")
    assert code == 1
    assert "the audit log can't be read" in told
