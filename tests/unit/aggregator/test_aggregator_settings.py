"""The aggregator's settings: one sentence names the variable that is missing, wrong or contradictory."""

import pytest

from aggregator.errors import SettingsError
from aggregator.settings import load

ENVIRONMENT = {
    "FLIGHTLINE_KAFKA": "k:9092",
    "FLIGHTLINE_POSTGRES": "postgresql://p/d",
    "FLIGHTLINE_CLICKHOUSE": "http://c:8123",
    "FLIGHTLINE_STATE": "state",
}


def test_settings_are_read_from_the_environment() -> None:
    settings = load(ENVIRONMENT | {"FLIGHTLINE_ALERT_FACTOR": "0.25", "FLIGHTLINE_LOG_LEVEL": "INFO"})
    assert (settings.kafka, settings.alert_factor, settings.log_level) == ("k:9092", 0.25, "info")


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_a_missing_setting_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load({key: value for key, value in ENVIRONMENT.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KAFKA", "k:x"),
        ("POSTGRES", "nowhere"),
        ("CLICKHOUSE", "nowhere"),
        ("METRICS_BIND", "nowhere"),
        ("LOG_LEVEL", "loud"),
        ("BILL_LINGER_SECONDS", "-1"),
        ("BILL_LINGER_SECONDS", "nan"),
        ("STORE_LINGER_SECONDS", "inf"),
        ("VERIFY_AFTER_SECONDS", "nan"),
        ("STORE_MAX_ROWS", "0"),
        ("STORE_MAX_ROWS", "x"),
        ("PENDING_MAX_ROWS", "10"),
        ("SEEN_WINDOW_SECONDS", "0"),
        ("SESSION_TIMEOUT_SECONDS", "0"),
        ("POSTGRES_CONNECTIONS", "0"),
        ("ALERT_WINDOW_MINUTES", "0"),
        ("ALERT_FACTOR", "-3"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^FLIGHTLINE_{name}[ :]") as refused:
        load(ENVIRONMENT | {f"FLIGHTLINE_{name}": value})
    assert "\n" not in str(refused.value)
