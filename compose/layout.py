"""Where a stack lives: its folders and its ports."""

import importlib.util
import socket
from pathlib import Path
from tempfile import NamedTemporaryFile

import msgspec

from compose.errors import ComposeError, PortTakenError

HOST = "127.0.0.1"
MAX_AGGREGATORS = 16


class State(msgspec.Struct, frozen=True):
    """The folders and files of one stack, all below its state directory."""

    root: Path

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets.json"

    @property
    def running(self) -> Path:
        return self.root / "running.json"

    @property
    def ready(self) -> Path:
        return self.root / "ready.json"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def data(self, name: str) -> Path:
        """The folder of one engine or service."""
        return self.root / name


def require_folder(root: Path) -> None:
    """Makes the folder of a stack's state; ComposeError when it can't be written to."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=root):
            pass
    except OSError as error:
        raise ComposeError(f"--state {root} must be a folder to write to: {error.strerror}.") from error


class Ports(msgspec.Struct, frozen=True):
    """All ports of one stack, on the loopback interface."""

    ingest: int = 8000
    control_api: int = 8080
    grpc: int = 9090
    clickhouse: int = 18123
    postgres: int = 15432
    kafka: int = 19092
    kafka_controller: int = 19093
    aggregator_metrics: int = 18200
    """The first of them; each aggregator has the next."""

    @classmethod
    def from_base(cls, base: int) -> "Ports":
        """`--port-base N`: ingest N, control API N+1, gRPC N+2, ClickHouse N+3, Postgres N+4, Kafka N+5 and
        N+6, the metrics of the aggregators from N+10.
        """
        return cls(base, base + 1, base + 2, base + 3, base + 4, base + 5, base + 6, base + 10)


def is_free(port: int) -> bool:
    """Whether the port can be listened on, as a server does it (a connection in TIME_WAIT is no obstacle)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def require_free(wanted: dict[str, int]) -> None:
    """PortTakenError when something listens on one of the ports, given by the name of their user."""
    taken = [f"{port} ({name})" for name, port in wanted.items() if not is_free(port)]
    if taken:
        raise PortTakenError(
            f"port {', '.join(taken)} on {HOST} is in use by another program: "
            "choose others for the whole stack with --port-base N."
        )


def accepts(host: str, port: int, timeout_s: float = 1.0) -> bool:
    """Whether a TCP connection is accepted there."""
    try:
        with socket.create_connection((host, port), timeout=timeout_s):
            return True
    except OSError:
        return False


def package_folder(name: str) -> Path:
    """Where a package is installed, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ComposeError(f"the package {name} is not installed: run `make setup`.")
    return Path(spec.origin).parent
