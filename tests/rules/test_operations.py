"""Whoever is woken by docs/OPERATIONS.md is woken by metrics that are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_metric_that_is_to_be_watched_exists() -> None:
    declared = "".join(
        (ROOT / service / "metrics.py").read_text() for service in ("ingest", "aggregator", "control_api")
    )
    named = re.findall(
        r"`((?:flightline|control_api)_[a-z_]+)`", (ROOT / "docs" / "OPERATIONS.md").read_text()
    )
    assert len(named) > 20
    assert [name for name in named if f'"{name}"' not in declared] == []
