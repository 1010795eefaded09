"""The door's settings, read once from the environment."""

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

import msgspec

from ingest.domain.pack import LONGEST_LINGERS
from ingest.errors import SettingError
from schemas.addresses import BadAddress, host_and_port, kafka_servers


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Each field is the environment variable FLIGHTLINE_<NAME>, unless it says another."""

    kafka: str
    """Bootstrap servers, `host:port`, separated by commas."""
    host: str
    """FLIGHTLINE_BIND, `host:port`; several doors may share one."""
    port: int
    state: Path
    """The folder of the snapshot and the spools; doors of one machine may share it, and should."""
    linger_ms: float = 2.0
    """How long a record stays open for other requests' events; up to five times as long while the records
    before it are on their way."""
    deadline_ms: int = 2_000
    """For Kafka's acknowledgement; afterwards the events go to the spool."""
    spool_mb: int = 1_024
    """Of disk for the spool of this door, and up to 16 MiB for its journal; beyond it the answer is 503."""
    max_pending_mb: int = 64
    """Of requests that have not been answered; above it the answer is 503 at once, and 429 to an organization
    that has its share of it in use."""
    grace_ms: int = 2_000
    """How long the door serves on after SIGTERM, with `/ready` at 503: so long a balancer takes to see it."""
    body_ms: int = 10_000
    """For a request to send its body; afterwards the answer is 408."""
    max_connections: int = 4_096
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks whose requests may carry a country in FLIGHTLINE_COUNTRY_HEADER."""
    country_header: str = "cf-ipcountry"


def load(environ: Mapping[str, str]) -> Settings:
    """The settings in `environ`. Raises SettingError."""
    try:
        settings = _read(environ)
    except BadAddress as error:
        raise SettingError(str(error)) from None
    if settings.linger_ms * LONGEST_LINGERS >= settings.deadline_ms:
        raise SettingError(
            f"FLIGHTLINE_LINGER_MS must be below FLIGHTLINE_DEADLINE_MS / {LONGEST_LINGERS}: "
            "records would be late unsent."
        )
    return settings


def _read(environ: Mapping[str, str]) -> Settings:
    host, port = host_and_port("FLIGHTLINE_BIND", _required(environ, "BIND"))
    return Settings(
        kafka=kafka_servers("FLIGHTLINE_KAFKA", _required(environ, "KAFKA")),
        host=host,
        port=port,
        state=Path(_required(environ, "STATE")),
        linger_ms=_number(environ, "LINGER_MS", 2.0, lowest=0.0, highest=1_000.0),
        deadline_ms=int(_number(environ, "DEADLINE_MS", 2_000, lowest=10, highest=60_000)),
        spool_mb=int(_number(environ, "SPOOL_MB", 1_024, lowest=1, highest=1_048_576)),
        max_pending_mb=int(_number(environ, "MAX_PENDING_MB", 64, lowest=1, highest=65_536)),
        grace_ms=int(_number(environ, "GRACE_MS", 2_000, lowest=0, highest=60_000)),
        body_ms=int(_number(environ, "BODY_MS", 10_000, lowest=100, highest=600_000)),
        max_connections=int(_number(environ, "MAX_CONNECTIONS", 4_096, lowest=1, highest=1_000_000)),
        trusted_proxies=_networks(environ),
        country_header=environ.get("FLIGHTLINE_COUNTRY_HEADER", "cf-ipcountry").lower(),
    )


def _required(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(f"FLIGHTLINE_{name}", "").strip()
    if not value:
        raise SettingError(f"FLIGHTLINE_{name} is not set.")
    return value


def _number(environ: Mapping[str, str], name: str, default: float, *, lowest: float, highest: float) -> float:
    text = environ.get(f"FLIGHTLINE_{name}", "").strip()
    try:
        value = float(text) if text else default
    except ValueError:
        value = float("nan")
    if not lowest <= value <= highest:
        raise SettingError(
            f"FLIGHTLINE_{name} must be a number from {lowest:g} to {highest:g}, not {text!r}."
        )
    return value


def _networks(environ: Mapping[str, str]) -> tuple[IPv4Network | IPv6Network, ...]:
    text = environ.get("FLIGHTLINE_TRUSTED_PROXIES", "")
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise SettingError(
            f"FLIGHTLINE_TRUSTED_PROXIES must be networks separated by commas: {error}."
        ) from None
