"""Settings that are wrong are refused with a sentence that names their variable."""

import pytest

from aggregator.errors import SettingsError
from aggregator.settings import load

REQUIRED = {
    "FLIGHTLINE_KAFKA": "k:1",
    "FLIGHTLINE_POSTGRES": "postgresql://p",
    "FLIGHTLINE_CLICKHOUSE": "http://c",
    "FLIGHTLINE_STATE": "/tmp/state",  # noqa: S108  only a name
}


def test_what_is_not_set_has_its_default() -> None:
    settings = load(REQUIRED)
    assert settings.log_retention_seconds == 7 * 24 * 3600
    assert settings.seen_window_seconds == 24 * 3600


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FLIGHTLINE_LOG_RETENTION_SECONDS", "0"),
        ("FLIGHTLINE_LOG_RETENTION_SECONDS", "a week"),
        ("FLIGHTLINE_LOG_RETENTION_SECONDS", str(24 * 3600)),
        ("FLIGHTLINE_RETENTION_EVERY_SECONDS", "-1"),
        ("FLIGHTLINE_STORE_MAX_ROWS", "500000"),
    ],
)
def test_a_wrong_setting_is_named(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=variable.replace("STORE", "(PENDING|STORE)")):
        load({**REQUIRED, variable: value})
