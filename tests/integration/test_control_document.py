"""The running API does what its OpenAPI document says: schemathesis with all of its checks, stateful too."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.integration.control import ControlApi, running_control_api

_SECONDS = int(os.environ.get("FLIGHTLINE_SCHEMA_SECONDS", "40"))
"""How long requests are made up; `make fuzz` gives them ten minutes."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(
    kafka: str, postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlApi]:
    async with running_control_api(kafka, postgres_dsn, Path(tmp_path_factory.mktemp("document"))) as running:
        yield running


@pytest.mark.timeout(_SECONDS + 300)
async def test_what_is_made_up_from_the_document_is_answered_as_it_says(
    api: ControlApi, tmp_path: Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("st")),
        "--config-file",
        str(Path(__file__).with_name("schemathesis.toml")),
        "--no-color",
        "run",
        f"{api.url}/api/v1/openapi.json",
        "--header",
        f"Authorization: Bearer {api.made.admin_token}",
        "--max-time",
        str(_SECONDS),
        "--continue-on-failure",
        cwd=tmp_path,
        env=os.environ
        | {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(Path(__file__).parent)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    assert '"request.failed"' not in api.log
