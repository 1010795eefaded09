"""The aggregator's settings, read once from the environment."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from aggregator.domain.windows import AlertRules
from aggregator.errors import SettingsError
from aggregator.live_windows import LiveWindowSettings

_HOUR_SECONDS = 3600
_MIB = 1024 * 1024


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the aggregator needs to know. Each field stands with its variable in `load`."""

    kafka: str
    postgres: str
    clickhouse: str
    state: Path
    owner: str
    """Names this process in the ledger; a new one at each start, so that each start has its own epoch."""
    metrics_bind: str = "127.0.0.1:0"
    group: str = "flightline-aggregator"
    group_instance: str | None = None
    """A name that survives restarts, unique in the group: a member that comes back within the session's
    timeout gets its partitions again without a rebalance (Kafka's static membership)."""
    bill_linger_seconds: float = 0.1
    bill_max_bytes: int = 4 * _MIB
    store_linger_seconds: float = 0.5
    store_max_rows: int = 20_000
    pending_max_rows: int = 400_000
    verify_after_seconds: float = 60.0
    compare_all_every_seconds: Annotated[float, msgspec.Meta(gt=0)] = 24 * 3600.0
    """How often all blocks of the ledger are compared with ClickHouse."""
    seen_window_seconds: int = 24 * 3600
    log_retention_seconds: Annotated[int, msgspec.Meta(gt=0)] = 7 * 24 * 3600
    """Older records are deleted once they are verified as stored, and so are the ledger's days."""
    retention_every_seconds: Annotated[float, msgspec.Meta(gt=0)] = 600.0
    session_timeout_seconds: float = 6.0
    postgres_connections: int = 10
    alert_window_minutes: int = 60
    alert_factor: float = 0.5
    alert_minimum_impressions: int = 1_000
    alert_cooldown_minutes: int = 60
    log_level: str = "info"

    def live_windows(self) -> LiveWindowSettings:
        """The part that live windows and their alerts are about."""
        return LiveWindowSettings(
            rules=AlertRules(
                window_minutes=self.alert_window_minutes,
                factor=self.alert_factor,
                minimum_impressions=self.alert_minimum_impressions,
                cooldown_minutes=self.alert_cooldown_minutes,
            )
        )


_REQUIRED = {
    "kafka": "FLIGHTLINE_KAFKA",
    "postgres": "FLIGHTLINE_POSTGRES",
    "clickhouse": "FLIGHTLINE_CLICKHOUSE",
    "state": "FLIGHTLINE_STATE",
}
_OPTIONAL = {
    "metrics_bind": "FLIGHTLINE_METRICS_BIND",
    "group": "FLIGHTLINE_AGGREGATOR_GROUP",
    "group_instance": "FLIGHTLINE_GROUP_INSTANCE",
    "bill_linger_seconds": "FLIGHTLINE_BILL_LINGER_SECONDS",
    "bill_max_bytes": "FLIGHTLINE_BILL_MAX_BYTES",
    "store_linger_seconds": "FLIGHTLINE_STORE_LINGER_SECONDS",
    "store_max_rows": "FLIGHTLINE_STORE_MAX_ROWS",
    "pending_max_rows": "FLIGHTLINE_PENDING_MAX_ROWS",
    "verify_after_seconds": "FLIGHTLINE_VERIFY_AFTER_SECONDS",
    "compare_all_every_seconds": "FLIGHTLINE_COMPARE_ALL_EVERY_SECONDS",
    "seen_window_seconds": "FLIGHTLINE_SEEN_WINDOW_SECONDS",
    "log_retention_seconds": "FLIGHTLINE_LOG_RETENTION_SECONDS",
    "retention_every_seconds": "FLIGHTLINE_RETENTION_EVERY_SECONDS",
    "session_timeout_seconds": "FLIGHTLINE_SESSION_TIMEOUT_SECONDS",
    "postgres_connections": "FLIGHTLINE_POSTGRES_CONNECTIONS",
    "alert_window_minutes": "FLIGHTLINE_ALERT_WINDOW_MINUTES",
    "alert_factor": "FLIGHTLINE_ALERT_FACTOR",
    "alert_minimum_impressions": "FLIGHTLINE_ALERT_MINIMUM_IMPRESSIONS",
    "alert_cooldown_minutes": "FLIGHTLINE_ALERT_COOLDOWN_MINUTES",
    "log_level": "FLIGHTLINE_LOG_LEVEL",
}


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this environment. SettingsError names the variable that is missing or wrong."""
    environ = os.environ if environ is None else environ
    values: dict[str, object] = {"owner": f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"}
    for field, variable in _REQUIRED.items():
        if not environ.get(variable):
            raise SettingsError(f"{variable} is not set")
        values[field] = environ[variable]
    for field, variable in _OPTIONAL.items():
        if environ.get(variable):
            values[field] = environ[variable]
    try:
        settings = msgspec.convert(values, Settings, strict=False, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise SettingsError(_name_variable(str(error))) from None
    if settings.pending_max_rows < settings.store_max_rows:
        raise SettingsError("FLIGHTLINE_PENDING_MAX_ROWS must not be below FLIGHTLINE_STORE_MAX_ROWS")
    if settings.log_retention_seconds < settings.seen_window_seconds + _HOUR_SECONDS:
        raise SettingsError(
            "FLIGHTLINE_LOG_RETENTION_SECONDS must be an hour above FLIGHTLINE_SEEN_WINDOW_SECONDS at least: "
            "seen ids are rebuilt from the log"
        )
    return settings


def _path(kind: type, value: object) -> object:
    return Path(value) if kind is Path and isinstance(value, str) else value


def _name_variable(message: str) -> str:
    """msgspec names the field (`at $.store_max_rows`); an operator knows the variable."""
    for field, variable in {**_REQUIRED, **_OPTIONAL}.items():
        if f"$.{field}`" in message:
            return f"{variable}: {message.split(' - ', maxsplit=1)[0]}"
    return message
