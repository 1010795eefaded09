"""The secrets of one stack: made on its first start, kept in its state with mode 0600."""

import os
import secrets
from pathlib import Path

import msgspec


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is not to be read by others on the machine."""

    postgres_password: str
    clickhouse_password: str
    dashboards_password: str
    jwt_secret: str
    write_key: str = ""
    """Clear text of the bootstrapped keys; empty until the control API's bootstrap has made them."""
    server_key: str = ""


def load_or_make(file: Path) -> Secrets:
    """The secrets of this state; made at the first call."""
    if file.exists():
        return msgspec.json.decode(file.read_bytes(), type=Secrets)
    made = Secrets(
        postgres_password=secrets.token_urlsafe(24),
        clickhouse_password=secrets.token_urlsafe(24),
        dashboards_password=secrets.token_urlsafe(24),
        jwt_secret=secrets.token_urlsafe(48),
    )
    save(file, made)
    return made


def save(file: Path, values: Secrets) -> None:
    """Replaces the file; the old or the new one is there at every moment."""
    write_private(file, msgspec.json.format(msgspec.json.encode(values)))


def write_private(file: Path, content: bytes) -> None:
    """Writes a file that only its owner reads, in place of the old one, at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(file)
