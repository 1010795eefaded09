"""The aggregator's settings, read once from the environment."""

import math
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from aggregator.domain.windows import AlertRules
from aggregator.errors import SettingsError
from aggregator.live_windows import LiveWindowSettings
from schemas.addresses import BadAddress, host_and_port, http_url, kafka_servers, postgres_dsn

_HOUR_SECONDS = 3600
_MIB = 1024 * 1024
_DAY_SECONDS = 24 * 3600
_ANY_PORT = "127.0.0.1:0"

_Bytes = Annotated[int, msgspec.Meta(ge=1024, le=256 * _MIB)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=100_000_000)]
_Linger = Annotated[float, msgspec.Meta(ge=0.001, le=60)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the aggregator needs to know. Each field stands with its variable in `load`."""

    kafka: str
    postgres: str
    clickhouse: str
    state: Path
    owner: str
    """Names this process in the ledger; a new one at each start, so that each start has its own epoch."""
    metrics_bind: str = _ANY_PORT
    group: str = "flightline-aggregator"
    group_instance: str | None = None
    """A name that survives restarts, unique in the group: a member that comes back within the session's
    timeout gets its partitions again without a rebalance (Kafka's static membership)."""
    bill_linger_seconds: _Linger = 0.05
    bill_max_bytes: _Bytes = 8 * _MIB
    store_linger_seconds: _Linger = 0.25
    store_interval_seconds: _Linger = 1.0
    """From one block to the next while events trickle in: an insert of one row costs what one of 250 does."""
    store_max_rows: _Count = 25_000
    store_max_bytes: _Bytes = 32 * _MIB
    pending_max_rows: _Count = 100_000
    pending_max_bytes: _Bytes = 64 * _MIB
    verify_after_seconds: Annotated[float, msgspec.Meta(ge=0, le=_DAY_SECONDS)] = 60.0
    compare_all_every_seconds: Annotated[float, msgspec.Meta(ge=1, le=365 * _DAY_SECONDS)] = _DAY_SECONDS
    """How often all blocks of the ledger are compared with ClickHouse."""
    seen_window_seconds: Annotated[int, msgspec.Meta(ge=1, le=365 * _DAY_SECONDS)] = _DAY_SECONDS
    log_retention_seconds: Annotated[int, msgspec.Meta(ge=1, le=3650 * _DAY_SECONDS)] = 7 * _DAY_SECONDS
    """Older records are deleted once they are verified as stored, and so are the ledger's days."""
    retention_every_seconds: Annotated[float, msgspec.Meta(ge=1, le=_DAY_SECONDS)] = 600.0
    session_timeout_seconds: Annotated[float, msgspec.Meta(ge=1, le=300)] = 6.0
    postgres_connections: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 10
    alert_window_minutes: Annotated[int, msgspec.Meta(ge=1, le=60)] = 60
    alert_factor: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    alert_minimum_impressions: Annotated[int, msgspec.Meta(ge=1)] = 1_000
    alert_cooldown_minutes: Annotated[int, msgspec.Meta(ge=0, le=30 * 24 * 60)] = 60
    log_level: Literal["debug", "info", "warning", "error"] = "info"

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
    "store_interval_seconds": "FLIGHTLINE_STORE_INTERVAL_SECONDS",
    "store_max_rows": "FLIGHTLINE_STORE_MAX_ROWS",
    "store_max_bytes": "FLIGHTLINE_STORE_MAX_BYTES",
    "pending_max_rows": "FLIGHTLINE_PENDING_MAX_ROWS",
    "pending_max_bytes": "FLIGHTLINE_PENDING_MAX_BYTES",
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
    if "log_level" in values:
        values["log_level"] = str(values["log_level"]).lower()
    try:
        settings = msgspec.convert(values, Settings, strict=False, dec_hook=_path)
        return _checked(settings)
    except msgspec.ValidationError as error:
        raise SettingsError(_name_variable(str(error))) from None
    except BadAddress as error:
        raise SettingsError(str(error)) from None


def _checked(settings: Settings) -> Settings:
    """What types can't say: addresses, numbers that are none, settings that contradict each other."""
    for field, value in msgspec.structs.asdict(settings).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise SettingsError(f"{_OPTIONAL[field]} must be a finite number, not {value}")
    if settings.pending_max_rows < settings.store_max_rows:
        raise SettingsError("FLIGHTLINE_PENDING_MAX_ROWS must not be below FLIGHTLINE_STORE_MAX_ROWS")
    if settings.log_retention_seconds < settings.seen_window_seconds + _HOUR_SECONDS:
        raise SettingsError(
            "FLIGHTLINE_LOG_RETENTION_SECONDS must be an hour above FLIGHTLINE_SEEN_WINDOW_SECONDS at least: "
            "seen ids are rebuilt from the log"
        )
    if settings.metrics_bind != _ANY_PORT:
        host_and_port(_OPTIONAL["metrics_bind"], settings.metrics_bind)
    return msgspec.structs.replace(
        settings,
        kafka=kafka_servers(_REQUIRED["kafka"], settings.kafka),
        postgres=postgres_dsn(_REQUIRED["postgres"], settings.postgres),
        clickhouse=http_url(_REQUIRED["clickhouse"], settings.clickhouse),
    )


def _path(kind: type, value: object) -> object:
    return Path(value) if kind is Path and isinstance(value, str) else value


def _name_variable(message: str) -> str:
    """msgspec names the field (`at $.store_max_rows`); an operator knows the variable."""
    for field, variable in {**_REQUIRED, **_OPTIONAL}.items():
        if f"$.{field}`" in message:
            return f"{variable}: {message.split(' - ', maxsplit=1)[0]}"
    return message
