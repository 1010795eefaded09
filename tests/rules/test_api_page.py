"""docs/API.md names a test for each promise; every one of them is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "API.md").read_text()


def found(name: str) -> list[Path]:
    """Files of this name; basenames are unique, a path may lead to one as well."""
    return list((ROOT / "tests").rglob(name.removeprefix("tests/").rpartition("/")[2]))


def test_every_test_that_the_page_names_is_there() -> None:
    named = re.findall(r"`((?:tests/\w+/)?test_\w+\.py)(?:::(test_\w+))?`", PAGE)
    assert len(named) > 80
    for file, test in named:
        (path,) = found(file)
        assert not test or re.search(rf"def {test}\(", path.read_text()), f"{file}::{test}"


def test_every_promise_has_a_test() -> None:
    rows = re.findall(r"^\| (?!promise|-)(.+?) \| (.+) \|$", PAGE, re.MULTILINE)
    assert rows
    assert all("test_" in tests for _, tests in rows)
