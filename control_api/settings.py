"""The settings of the control API, read once from the environment."""

from collections.abc import Mapping

import msgspec

from control_api.errors import SettingsError

_MIN_SECRET_LENGTH = 32
_MAX_PORT = 65_535
_BODY_MS = (100, 600_000)
_DRAIN_MS = (0, 30_000)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """`kafka` is a list of host:port, `postgres` a DSN, `clickhouse` and `ingest` URLs."""

    kafka: str
    postgres: str
    clickhouse: str | None
    ingest: str | None
    host: str
    port: int
    jwt_secret: str
    body_seconds: float = 10.0
    """FLIGHTLINE_BODY_MS: for a request to send its body; afterwards the answer is 408."""
    drain_seconds: float = 1.0
    """FLIGHTLINE_DRAIN_MS: for so long after SIGTERM all is still served while /ready answers 503, which is
    a balancer's time to notice."""


def load(environ: Mapping[str, str]) -> Settings:
    """Raises SettingsError with one sentence that names the variable."""
    host, port = _address(_required(environ, "FLIGHTLINE_BIND", "host:port to listen on"))
    secret = _required(environ, "FLIGHTLINE_JWT_SECRET", "the secret that tokens are signed with")
    if len(secret) < _MIN_SECRET_LENGTH:
        raise SettingsError(
            f"FLIGHTLINE_JWT_SECRET must have at least {_MIN_SECRET_LENGTH} characters, as HS256 asks for."
        )
    return Settings(
        kafka=_required(environ, "FLIGHTLINE_KAFKA", "host:port of Kafka's brokers, comma separated"),
        postgres=_required(environ, "FLIGHTLINE_POSTGRES", "the DSN of Postgres"),
        clickhouse=environ.get("FLIGHTLINE_CLICKHOUSE") or None,
        ingest=environ.get("FLIGHTLINE_INGEST_URL") or None,
        host=host,
        port=port,
        jwt_secret=secret,
        body_seconds=_milliseconds(environ, "FLIGHTLINE_BODY_MS", 10_000, _BODY_MS) / 1000,
        drain_seconds=_milliseconds(environ, "FLIGHTLINE_DRAIN_MS", 1_000, _DRAIN_MS) / 1000,
    )


def _required(environ: Mapping[str, str], name: str, meaning: str) -> str:
    value = environ.get(name, "").strip()
    if not value:
        raise SettingsError(f"{name} is not set: it is {meaning}.")
    return value


def _milliseconds(environ: Mapping[str, str], name: str, default: int, bounds: tuple[int, int]) -> int:
    text = environ.get(name, "").strip() or str(default)
    least, most = bounds
    if not text.isdecimal() or not least <= int(text) <= most:
        raise SettingsError(f"{name} must be a number from {least} to {most}, not {text!r}.")
    return int(text)


def _address(bind: str) -> tuple[str, int]:
    host, _, port = bind.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) <= _MAX_PORT:
        raise SettingsError(f"FLIGHTLINE_BIND must be host:port, not {bind!r}.")
    return host.strip("[]"), int(port)
