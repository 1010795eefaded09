"""Addresses of engines and services as settings give them; each process refuses the same mistakes at start.

Each function returns the address as it is to be used, or raises BadAddress with a sentence that begins with
the variable's name.
"""

import re
from urllib.parse import urlsplit

_MAX_PORT = 65_535
_HOST = re.compile(r"\[[0-9A-Fa-f:.%]+\]|[^\s:/@\[\],]+")


class BadAddress(ValueError):
    """An address that nothing can be reached at, whatever runs; the sentence names its variable."""


def host_and_port(name: str, text: str) -> tuple[str, int]:
    """`host:port`, an IPv6 host in brackets; the host without them."""
    host, _, port = text.strip().rpartition(":")
    if not _HOST.fullmatch(host) or not _is_port(port):
        raise BadAddress(f"{name} must be host:port, not {text!r}.")
    return host.strip("[]"), int(port)


def kafka_servers(name: str, text: str) -> str:
    """Bootstrap servers, `host:port`, separated by commas."""
    servers = [part.strip() for part in text.split(",")]
    for server in servers:
        try:
            host_and_port(name, server)
        except BadAddress:
            raise BadAddress(
                f"{name} must be host:port, several separated by commas, not {text!r}."
            ) from None
    return ",".join(servers)


def postgres_dsn(name: str, text: str) -> str:
    """`postgresql://user:password@host:port/database`; only its parts without secrets are told."""
    scheme, separator, rest = text.strip().partition("://")
    if not separator or scheme not in {"postgresql", "postgres"}:
        raise BadAddress(f"{name} must begin with postgresql://.")
    hosts = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    for host in hosts.split(","):
        _, colon, port = host.rpartition("]")[2].partition(":")
        if colon and not _is_port(port):
            raise BadAddress(f"{name} has the port {port!r}, which is not one.")
    return text.strip()


def http_url(name: str, text: str) -> str:
    """`http://…` or `https://…`; only its parts without secrets are told."""
    try:
        parts = urlsplit(text.strip())
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        usable = False
    if not usable:
        raise BadAddress(f"{name} must be a URL such as http://host:port.")
    return text.strip()


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < int(text) <= _MAX_PORT
