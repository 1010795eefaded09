"""The demo tells its story, and its exit code is that of the promises it watches."""

import asyncio
import re
import sys
from pathlib import Path

import pytest

from tests.running import free_port_base

pytestmark = pytest.mark.timeout(200)


async def test_a_campaign_is_seen_to_pass_90_and_100_percent_and_every_event_is_counted(
    folder: Path,
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "compose.cli", "demo", "--once", "--state", str(folder / "state")),
        *("--port-base", str(free_port_base())),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    told = output.decode()
    assert process.returncode == 0, told
    seen = [
        told.index("Flash deal has passed 90 % of 2.00 EUR: PAUSED (BUDGET_90)"),
        told.index("Flash deal is resumed with acknowledgeBudget"),
        told.index("Flash deal has passed 100 % of 2.00 EUR: COMPLETED (BUDGET_100), billed 2.000000"),
        told.index("billed equals the budget to the micro: 2.000000 = 2.00 EUR"),
    ]
    assert seen == sorted(seen)
    counted = re.search(r"([\d,]+) events promised by the door, ([\d,]+) counted", told)
    assert counted is not None
    assert counted[1] == counted[2]
