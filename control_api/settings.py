"""The settings of the control API, read once from the environment."""

from collections.abc import Mapping

import msgspec

from control_api.errors import SettingsError
from schemas.addresses import BadAddress, host_and_port, http_url, kafka_servers, postgres_dsn

_MIN_SECRET_LENGTH = 32
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
    try:
        return _read(environ)
    except BadAddress as error:
        raise SettingsError(str(error)) from None


def _read(environ: Mapping[str, str]) -> Settings:
    bind = _required(environ, "FLIGHTLINE_BIND", "host:port to listen on")
    host, port = host_and_port("FLIGHTLINE_BIND", bind)
    secret = _required(environ, "FLIGHTLINE_JWT_SECRET", "the secret that tokens are signed with")
    if len(secret) < _MIN_SECRET_LENGTH:
        raise SettingsError(
            f"FLIGHTLINE_JWT_SECRET must have at least {_MIN_SECRET_LENGTH} characters, as HS256 asks for."
        )
    kafka = _required(environ, "FLIGHTLINE_KAFKA", "host:port of Kafka's brokers, comma separated")
    postgres = _required(environ, "FLIGHTLINE_POSTGRES", "the DSN of Postgres")
    return Settings(
        kafka=kafka_servers("FLIGHTLINE_KAFKA", kafka),
        postgres=postgres_dsn("FLIGHTLINE_POSTGRES", postgres),
        clickhouse=_url(environ, "FLIGHTLINE_CLICKHOUSE"),
        ingest=_url(environ, "FLIGHTLINE_INGEST_URL"),
        host=host,
        port=port,
        jwt_secret=secret,
        body_seconds=_milliseconds(environ, "FLIGHTLINE_BODY_MS", 10_000, _BODY_MS) / 1000,
        drain_seconds=_milliseconds(environ, "FLIGHTLINE_DRAIN_MS", 1_000, _DRAIN_MS) / 1000,
    )


def _url(environ: Mapping[str, str], name: str) -> str | None:
    value = environ.get(name, "").strip()
    return http_url(name, value) if value else None


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
