"""Options of `flightline replay` that can't be meant are told at once, not after ten minutes of patience."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from compose.cli import app
from compose.replay.errors import InvalidOption
from compose.replay.promises import PromisesFile

CAMPAIGN = "01890000-0000-7000-8000-000000000000"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--url", "nowhere", "--key", "k"], "--url must be a URL"),
        (["--url", "http://127.0.0.1:1"], "--key"),
        (["--url", "http://127.0.0.1:1", "--key", "k", "--map", "visitorId=usr"], "no column 'usr'"),
    ],
)
def test_what_can_not_be_meant_is_told(tmp_path: Path, options: list[str], told: str) -> None:
    file = tmp_path / "events.csv"
    file.write_text("user\n1\n")
    ended = CliRunner().invoke(app, ["replay", str(file), "--campaign", CAMPAIGN, *options])
    assert isinstance(ended.exception, InvalidOption)
    assert told in str(ended.exception)


def test_promises_that_can_not_be_kept_are_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="--promises"):
        PromisesFile(tmp_path / "nowhere" / "promises.ndjson")
