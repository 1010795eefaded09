"""The door's settings: one sentence names the variable that is missing, wrong or contradictory."""

import pytest

from ingest.errors import SettingError
from ingest.settings import load

ENVIRONMENT = {"FLIGHTLINE_KAFKA": "k:9092", "FLIGHTLINE_BIND": "127.0.0.1:8000", "FLIGHTLINE_STATE": "state"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KAFKA", "k:x"),
        ("KAFKA", ","),
        ("KAFKA", "http://k:9092"),
        ("BIND", "nowhere"),
        ("LINGER_MS", "nan"),
        ("DEADLINE_MS", "x"),
        ("TRUSTED_PROXIES", "nowhere"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"^FLIGHTLINE_{name} "):
        load(ENVIRONMENT | {f"FLIGHTLINE_{name}": value})


def test_records_can_not_wait_for_longer_than_they_may_take() -> None:
    contradiction = {"FLIGHTLINE_LINGER_MS": "500", "FLIGHTLINE_DEADLINE_MS": "100"}
    with pytest.raises(SettingError, match="FLIGHTLINE_LINGER_MS must be below FLIGHTLINE_DEADLINE_MS"):
        load(ENVIRONMENT | contradiction)
