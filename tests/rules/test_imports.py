"""Who may import whom. ARCHITECTURE.md says why."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"ingest", "aggregator", "control_api", "schemas", "sql", "compose"}
MAY_IMPORT = {
    "schemas": set[str](),
    "sql": {"schemas"},
    "ingest": {"schemas", "sql"},
    "aggregator": {"schemas", "sql"},
    "control_api": {"schemas", "sql"},
    "compose": OURS,
}
DOMAIN_LIBRARIES = {"msgspec", "numpy", "crawlerdetect", "uuid_utils"}
"""Libraries that compute and do no I/O; everything else of a domain is the standard library's."""

BUILD_ONLY = {"protobuf.py"}
"""Run by a developer only, with what the development group has."""

DOMAIN_FORBIDDEN_STANDARD = {"asyncio", "os", "socket", "subprocess", "time", "pathlib", "logging", "random"}
"""A domain does no I/O, has no clock and no environment: time and chance are arguments."""


def sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def imported(path: Path) -> Iterator[str]:
    """Full names of the modules a file imports, at any depth of its code."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide who imports whom"
            yield node.module or ""


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_a_package_imports_only_those_below_it(package: str) -> None:
    allowed = MAY_IMPORT[package] | {package}
    for path in sources(ROOT / package):
        for module in imported(path):
            top = module.partition(".")[0]
            assert top not in OURS or top in allowed, f"{path.relative_to(ROOT)} imports {module}"


@pytest.mark.parametrize("package", ["ingest", "aggregator", "control_api"])
def test_a_domain_is_pure(package: str) -> None:
    for path in sources(ROOT / package / "domain"):
        for module in imported(path):
            top = module.partition(".")[0]
            where = f"{path.relative_to(ROOT)} imports {module}"
            assert top not in DOMAIN_FORBIDDEN_STANDARD, where
            assert (
                top in sys.stdlib_module_names
                or top in DOMAIN_LIBRARIES
                or top == "schemas"
                or module.startswith(f"{package}.domain")
            ), where


@pytest.mark.parametrize("package", sorted(OURS))
def test_what_is_imported_is_a_dependency_of_ours_and_not_of_another(package: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[\[<>=~!; ]", each)[0] for each in project["dependencies"]}
    of_module = packages_distributions()
    for path in sources(ROOT / package):
        for module in imported(path):
            top = module.partition(".")[0]
            if top in sys.stdlib_module_names or top in OURS or path.name in BUILD_ONLY:
                continue
            names = {name.lower().replace("_", "-") for name in of_module.get(top, ())}
            assert names & declared, f"{path.relative_to(ROOT)} imports {module} of {names or 'nowhere'}"


def test_nothing_imports_the_app_of_a_service_but_its_main() -> None:
    """The composition root is one file, above all others."""
    for package in ("ingest", "aggregator", "control_api"):
        for path in sources(ROOT / package):
            if path.name in {"__main__.py", "app.py"}:
                continue
            assert f"{package}.app" not in set(imported(path)), path.relative_to(ROOT)


def test_sql_stands_in_sql_files() -> None:
    """Python outside `sql/` holds no statements; a few words of a session or a probe are no query."""
    for package in ("ingest", "aggregator", "control_api"):
        for path in sources(ROOT / package):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    words = node.value.split()
                    is_statement = len(words) > 4 and words[0] in {"INSERT", "UPDATE", "DELETE", "SELECT"}
                    assert not is_statement, f"{path.relative_to(ROOT)}:{node.lineno}: {node.value[:60]}"
