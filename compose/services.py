"""How the three services are started: their processes and the environment each is given."""

import sys

import msgspec

from compose.addresses import Addresses
from compose.engines.clickhouse import responds
from compose.layout import HOST, Ports, State
from compose.process import ProcessSpec
from compose.secrets import Secrets


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the services' environments are made of."""

    state: State
    ports: Ports
    addresses: Addresses
    secrets: Secrets
    ingest: int
    aggregators: int
    ingest_grace_ms: str = "0"
    """How long a door serves on after it was told to stop: nothing balances between those of one stack."""


def environment(settings: Settings, service: str, port: int, worker: int = 0) -> dict[str, str]:
    """The environment of one process of a service; its folder is its own."""
    folder = settings.state.data(service)
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "FLIGHTLINE_KAFKA": settings.addresses.kafka,
        "FLIGHTLINE_POSTGRES": settings.addresses.postgres,
        "FLIGHTLINE_CLICKHOUSE": settings.addresses.clickhouse,
        "FLIGHTLINE_STATE": str(folder),
        "FLIGHTLINE_BIND": f"{HOST}:{port}",
        "FLIGHTLINE_WORKER": str(worker),
    }


def ingest(settings: Settings) -> list[ProcessSpec]:
    """The doors: they share one port."""
    port = settings.ports.ingest
    return [
        ProcessSpec(
            name="ingest",
            log=f"ingest-{worker}",
            argv=[sys.executable, "-m", "ingest"],
            env=environment(settings, "ingest", port, worker)
            | {"FLIGHTLINE_GRACE_MS": settings.ingest_grace_ms},
            is_ready=lambda: responds(f"http://{HOST}:{port}/ready"),
        )
        for worker in range(settings.ingest)
    ]


def aggregators(settings: Settings) -> list[ProcessSpec]:
    """They share the partitions; each has a port for its health and metrics."""
    return [_aggregator(settings, worker) for worker in range(settings.aggregators)]


def _aggregator(settings: Settings, worker: int) -> ProcessSpec:
    port = settings.ports.aggregator_metrics + worker
    bind = f"{HOST}:{port}"
    return ProcessSpec(
        name="aggregator",
        log=f"aggregator-{worker}",
        argv=[sys.executable, "-m", "aggregator"],
        env=environment(settings, "aggregator", port, worker)
        | {
            "FLIGHTLINE_METRICS_BIND": bind,
            # Back within Kafka's session timeout, a restarted worker goes on without a rebalance.
            "FLIGHTLINE_GROUP_INSTANCE": f"aggregator-{worker}",
        },
        is_ready=lambda: responds(f"http://{bind}/ready"),
    )


def control_api(settings: Settings) -> ProcessSpec:
    """The control API, HTTP and gRPC."""
    port = settings.ports.control_api
    return ProcessSpec(
        name="control_api",
        log="control_api",
        argv=[sys.executable, "-m", "control_api"],
        env=control_api_environment(settings),
        is_ready=lambda: responds(f"http://{HOST}:{port}/ready"),
    )


def control_api_environment(settings: Settings) -> dict[str, str]:
    """Also what its bootstrap runs with."""
    return environment(settings, "control_api", settings.ports.control_api) | {
        "FLIGHTLINE_GRPC_BIND": f"{HOST}:{settings.ports.grpc}",
        "FLIGHTLINE_JWT_SECRET": settings.secrets.jwt_secret,
        "FLIGHTLINE_INGEST_URL": f"http://{HOST}:{settings.ports.ingest}",
    }
