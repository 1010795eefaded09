"""The settings of the control API, read once from the environment."""

import re
from collections.abc import Mapping
from ipaddress import ip_network
from urllib.parse import urlsplit

import msgspec

from control_api.auth.address import Network
from control_api.auth.rates import is_rate
from control_api.auth.tokens import ISSUER
from control_api.errors import SettingsError
from schemas.addresses import BadAddress, host_and_port, http_url, kafka_servers, postgres_dsn

_MIN_SECRET_LENGTH = 32
_BODY_MS = (100, 600_000)
_DRAIN_MS = (0, 30_000)
_MOST_ATTEMPTS, _MOST_CONNECTIONS = 1_000_000, 1_000
_ORIGIN = re.compile(r"https?://[a-z0-9.\[\]:-]{1,255}")


class OutsideIssuer(msgspec.Struct, frozen=True, kw_only=True):
    """FLIGHTLINE_OIDC_*: whose tokens are accepted beside our own, and which claims hold what."""

    issuer: str
    audience: str
    jwks_url: str
    org_claim: str
    roles_claim: str


class GrpcSettings(msgspec.Struct, frozen=True):
    """Where gRPC listens; with TLS when there is a certificate (files of PEM), for clients with a certificate
    of `client_ca` only when that is set."""

    host: str
    port: int
    certificate: str | None = None
    key: str | None = None
    client_ca: str | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """`kafka` is a list of host:port, `postgres` a DSN, `clickhouse` and `ingest` URLs."""

    kafka: str
    postgres: str
    clickhouse: str | None
    ingest: str | None
    host: str
    port: int
    jwt_secret: str
    certificate: str | None = None
    key: str | None = None
    """FLIGHTLINE_TLS_CERT, FLIGHTLINE_TLS_KEY: files of PEM; with them it speaks TLS 1.3 and nothing else."""
    grpc: GrpcSettings | None = None
    postgres_connections: int = 10
    """FLIGHTLINE_POSTGRES_CONNECTIONS: at a time, beside two of its own for the outbox and the read-back."""
    body_seconds: float = 10.0
    """FLIGHTLINE_BODY_MS: for a request to send its body; afterwards the answer is 408."""
    login_attempts: tuple[int, int] = (10, 100)
    """FLIGHTLINE_LOGIN_PER_ACCOUNT, FLIGHTLINE_LOGIN_PER_ADDRESS: in a quarter of an hour."""
    rate_user: str = "12000/minute"
    rate_key: str = "60000/minute"
    rate_address: str = "3000/minute"
    """FLIGHTLINE_RATE_USER, _KEY, _ADDRESS: requests of one, in one process."""
    outside: OutsideIssuer | None = None
    cors_origins: tuple[str, ...] = ()
    """FLIGHTLINE_CORS_ORIGINS: of consoles whose pages come from elsewhere."""
    trusted_proxies: tuple[Network, ...] = ()
    """FLIGHTLINE_TRUSTED_PROXIES: networks whose X-Forwarded-For is believed."""
    drain_seconds: float = 1.0
    """FLIGHTLINE_DRAIN_MS: for so long after SIGTERM all is still served while /ready answers 503, which is
    a balancer's time to notice."""
    webhooks_private: bool = False
    """FLIGHTLINE_WEBHOOKS_PRIVATE=1: webhooks may lead into private networks, and by http."""


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
    certificate, certificate_key = _certificate(environ, "FLIGHTLINE_TLS_CERT", "FLIGHTLINE_TLS_KEY")
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
        certificate=certificate,
        key=certificate_key,
        postgres_connections=_count(environ, "FLIGHTLINE_POSTGRES_CONNECTIONS", 10, _MOST_CONNECTIONS),
        login_attempts=(
            _count(environ, "FLIGHTLINE_LOGIN_PER_ACCOUNT", 10),
            _count(environ, "FLIGHTLINE_LOGIN_PER_ADDRESS", 100),
        ),
        rate_user=_rate(environ, "FLIGHTLINE_RATE_USER", "12000/minute"),
        rate_key=_rate(environ, "FLIGHTLINE_RATE_KEY", "60000/minute"),
        rate_address=_rate(environ, "FLIGHTLINE_RATE_ADDRESS", "3000/minute"),
        outside=_outside(environ),
        cors_origins=_origins(environ, "FLIGHTLINE_CORS_ORIGINS"),
        trusted_proxies=_networks(environ, "FLIGHTLINE_TRUSTED_PROXIES"),
        grpc=_grpc(environ),
        body_seconds=_milliseconds(environ, "FLIGHTLINE_BODY_MS", 10_000, _BODY_MS) / 1000,
        webhooks_private=_flag(environ, "FLIGHTLINE_WEBHOOKS_PRIVATE"),
        drain_seconds=_milliseconds(environ, "FLIGHTLINE_DRAIN_MS", 1_000, _DRAIN_MS) / 1000,
    )


def _grpc(environ: Mapping[str, str]) -> GrpcSettings | None:
    bind = environ.get("FLIGHTLINE_GRPC_BIND", "").strip()
    if not bind:
        return None
    host, port = host_and_port("FLIGHTLINE_GRPC_BIND", bind)
    certificate, key = _certificate(environ, "FLIGHTLINE_GRPC_TLS_CERT", "FLIGHTLINE_GRPC_TLS_KEY")
    client_ca = environ.get("FLIGHTLINE_GRPC_TLS_CLIENT_CA", "").strip() or None
    if client_ca is not None and certificate is None:
        raise SettingsError("FLIGHTLINE_GRPC_TLS_CLIENT_CA needs FLIGHTLINE_GRPC_TLS_CERT and its key.")
    return GrpcSettings(host, port, certificate, key, client_ca)


def _certificate(environ: Mapping[str, str], name: str, key_name: str) -> tuple[str | None, str | None]:
    certificate, key = (environ.get(each, "").strip() or None for each in (name, key_name))
    if (certificate is None) != (key is None):
        raise SettingsError(f"{name} and {key_name} need each other.")
    return certificate, key


def _url(environ: Mapping[str, str], name: str) -> str | None:
    value = environ.get(name, "").strip()
    return http_url(name, value) if value else None


def _outside(environ: Mapping[str, str]) -> OutsideIssuer | None:
    """All three, or none of them."""
    names = ("FLIGHTLINE_OIDC_ISSUER", "FLIGHTLINE_OIDC_AUDIENCE", "FLIGHTLINE_OIDC_JWKS_URL")
    issuer, audience, url = (environ.get(name, "").strip() for name in names)
    if not (issuer or audience or url):
        return None
    for name, value in zip(names, (issuer, audience, url), strict=True):
        if not value:
            raise SettingsError(f"{name} is not set: an outside issuer needs {', '.join(names)}.")
    if issuer == ISSUER:
        raise SettingsError(f"FLIGHTLINE_OIDC_ISSUER must not be {ISSUER!r}: that is this service itself.")
    return OutsideIssuer(
        issuer=issuer,
        audience=audience,
        jwks_url=_jwks_url("FLIGHTLINE_OIDC_JWKS_URL", url),
        org_claim=environ.get("FLIGHTLINE_OIDC_ORG_CLAIM", "").strip() or "org",
        roles_claim=environ.get("FLIGHTLINE_OIDC_ROLES_CLAIM", "").strip() or "roles",
    )


def _jwks_url(name: str, text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"{name} must be an http or https address, not {text!r}.")
    return text


def _count(environ: Mapping[str, str], name: str, default: int, most: int = _MOST_ATTEMPTS) -> int:
    text = environ.get(name, "").strip() or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise SettingsError(f"{name} must be a number from 1 to {most}, not {text!r}.")
    return int(text)


def _rate(environ: Mapping[str, str], name: str, default: str) -> str:
    text = environ.get(name, "").strip() or default
    if not is_rate(text):
        raise SettingsError(f"{name} must be a rate such as {default}, not {text!r}.")
    return text


def _origins(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    origins = tuple(part.strip() for part in environ.get(name, "").split(",") if part.strip())
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise SettingsError(f"{name} must be origins such as https://console.example, not {origin!r}.")
    return origins


def _networks(environ: Mapping[str, str], name: str) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(part.strip()) for part in environ.get(name, "").split(",") if part.strip())
    except ValueError as error:
        raise SettingsError(f"{name} must be networks such as 10.0.0.0/8: {error}.") from None


def _required(environ: Mapping[str, str], name: str, meaning: str) -> str:
    value = environ.get(name, "").strip()
    if not value:
        raise SettingsError(f"{name} is not set: it is {meaning}.")
    return value


def _flag(environ: Mapping[str, str], name: str) -> bool:
    text = environ.get(name, "").strip() or "0"
    if text not in {"0", "1"}:
        raise SettingsError(f"{name} must be 1 or 0, not {text!r}.")
    return text == "1"


def _milliseconds(environ: Mapping[str, str], name: str, default: int, bounds: tuple[int, int]) -> int:
    text = environ.get(name, "").strip() or str(default)
    least, most = bounds
    if not text.isdecimal() or not least <= int(text) <= most:
        raise SettingsError(f"{name} must be a number from {least} to {most}, not {text!r}.")
    return int(text)
