"""What the repository itself promises of its lock, its dependencies and its modules."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_lock_records_no_index_and_pins_every_package_by_hash() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert "--index-url" not in lock
    requirements = re.findall(r"^([a-zA-Z0-9_.-]+)==", lock, re.MULTILINE)
    blocks = re.split(r"^(?=[a-zA-Z0-9_.-]+==)", lock, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(requirements) > 0
    assert all("--hash=sha256:" in block for block in blocks)


def test_each_dependency_has_a_reason_in_contributing() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    reasons = (ROOT / "CONTRIBUTING.md").read_text()
    for requirement in named:
        name = re.split(r"[\[<>=~! ]", requirement)[0]
        assert re.search(rf"^- `{re.escape(name)}`: ", reasons, re.MULTILINE), f"no reason for {name}"


def test_every_module_says_what_it_is() -> None:
    for package in ("ingest", "aggregator", "control_api", "schemas", "sql", "compose"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text().strip()
            assert not text or text.startswith('"""'), f"{path.relative_to(ROOT)} does not say what it is"
