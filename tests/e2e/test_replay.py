"""Replays of other kinds of files, replays that are killed, and what the door refuses."""

from pathlib import Path

import msgspec
import pytest

from compose.demo.control import ControlApi
from schemas.ids import new_id
from tests.e2e.replays import control_api, data_file, eventually, flightline, running_campaign, start
from tests.running import RunningStack

pytestmark = pytest.mark.timeout(180)

ROWS = 20_000


async def test_an_access_log_is_stored_unbilled_with_its_times_and_the_broken_line_is_named(
    stack: RunningStack, tmp_path: Path
) -> None:
    file = data_file("apache_access.log.gz")
    async with control_api(stack) as api:
        campaign = await running_campaign(api, stack, "log", model="CPM", price="1")
        promises = tmp_path / "promises"
        output = await flightline(
            "replay", file, "--campaign", campaign.id, "--promises", promises, stack=stack
        )
        assert output.code == 0, output.text
        assert "malformed line 8899" in output.text
        reconciled = await flightline("reconcile", "--promises", promises, stack=stack)
        assert reconciled.code == 0, reconciled.text
        metrics = await api.metrics(campaign.id)
    answers = [msgspec.json.decode(line) for line in promises.read_bytes().splitlines()]
    bots = sum(answer["reason"] == "BOT" for answer in answers)
    assert len(answers) == 9_999
    assert bots > 100
    assert metrics.impressions == 9_999 - bots
    assert metrics.unbilled == {"BACKFILL": 9_999 - bots}
    assert metrics.cost.amount == 0


async def test_nested_rows_are_mapped_by_dotted_paths(stack: RunningStack, tmp_path: Path) -> None:
    async with control_api(stack) as api:
        campaign = await running_campaign(api, stack, "nested", model="CPA", price="2.5")
        file = tmp_path / "orders.ndjson"
        rows = [
            {"kind": "conversion", "order": {"id": f"o-{n}", "total": 1990 + n}, "user": {"id": n}}
            for n in range(100)
        ]
        file.write_bytes(msgspec.json.Encoder().encode_lines(rows) + b"{broken\n")
        output = await flightline(
            *("replay", file, "--campaign", campaign.id, "--map", "type=kind", "--event-id", "order.id"),
            *("--map", "revenue=order.total*0.01", "--map", "visitorId=user.id", "--set", "channel=EMAIL"),
            stack=stack,
        )
        assert output.code == 0, output.text
        assert "malformed line 101" in output.text
        await counted(api, campaign.id, conversions=100)
        assert (await api.metrics(campaign.id)).cost.amount == 250


async def test_a_replay_that_is_killed_and_started_again_counts_every_row_once(
    stack: RunningStack, tmp_path: Path
) -> None:
    file, promises = tmp_path / "rows.csv", tmp_path / "promises"
    file.write_text("n\n" + "".join(f"{n}\n" for n in range(ROWS)))
    async with control_api(stack) as api:
        campaign = await running_campaign(api, stack, "killed", model="CPM", price="1")
        arguments = ("replay", file, "--campaign", campaign.id, "--promises", promises, "--batch", "100")
        process = await start(*arguments, stack=stack)

        async def is_half_way() -> bool:
            return promises.exists() and promises.stat().st_size > 0

        await eventually(is_half_way, 30, "something is promised")
        process.kill()
        await process.wait()
        output = await flightline(*arguments, stack=stack)
        assert output.code == 0, output.text
        await counted(api, campaign.id, impressions=ROWS)
        reconciled = await flightline("reconcile", "--promises", promises, stack=stack)
        assert reconciled.code == 0, reconciled.text


async def test_what_the_door_rejects_is_shown_and_fails_the_command(
    stack: RunningStack, tmp_path: Path
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("n\n1\n2\n")
    unknown = "01900000-0000-7000-8000-000000000000"
    output = await flightline("replay", file, "--campaign", unknown, stack=stack)
    assert output.code == 1
    assert "rejected UNKNOWN_CAMPAIGN" in output.text
    allowed = await flightline("replay", file, "--campaign", unknown, "--allow-rejected", stack=stack)
    assert allowed.code == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("replay", "missing.csv", "--campaign", new_id()), "missing.csv can't be read"),
        (("replay", __file__, "--campaign", "nobody"), "is not the id of a campaign"),
        (("replay", __file__), "which campaign?"),
        (("replay", __file__, "--campaign", new_id(), "--map", "price=x"), "has no field 'price'"),
    ],
)
async def test_a_command_that_can_not_be_meant_is_one_sentence(
    stack: RunningStack, arguments: tuple[str, ...], sentence: str
) -> None:
    output = await flightline(*arguments, stack=stack)
    assert output.code == 1
    assert sentence in output.text
    assert "Traceback" not in output.text


async def counted(api: ControlApi, campaign_id: str, **expected: int) -> None:
    """Waits until the campaign's metrics are as expected."""

    async def is_counted() -> bool:
        metrics = msgspec.structs.asdict(await api.metrics(campaign_id))
        return all(metrics[name] == value for name, value in expected.items())

    await eventually(is_counted, 30, f"{expected}")
