"""Every setting stands in docs/SETTINGS.md, and nothing else does."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
READ_IN = (
    "ingest/settings.py",
    "aggregator/settings.py",
    "control_api/settings.py",
    "compose/addresses.py",
    "compose/bootstrap.py",
)


def settings_in_code() -> set[str]:
    """Named in full, or as the door names them: `_number(environ, "LINGER_MS", …)`."""
    code = "\n".join((ROOT / file).read_text() for file in READ_IN)
    short = {f"FLIGHTLINE_{name}" for name in re.findall(r'\(environ, "((?!FLIGHTLINE_)[A-Z_]+)"', code)}
    return short | set(re.findall(r"\bFLIGHTLINE_[A-Z_]+[A-Z]\b", code))


def test_the_page_of_settings_names_every_one_and_no_other() -> None:
    described = set(re.findall(r"`(FLIGHTLINE_[A-Z_]+)`", (ROOT / "docs" / "SETTINGS.md").read_text()))
    assert described == settings_in_code()
