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
    control_apis: int = 1
    ingest_grace_ms: str = "0"
    """How long a door serves on after it was told to stop: nothing balances between those of one stack."""


def environment(settings: Settings, service: str, port: int) -> dict[str, str]:
    """What every service has: Kafka, and a folder of its own."""
    folder = settings.state.data(service)
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "FLIGHTLINE_KAFKA": settings.addresses.kafka,
        "FLIGHTLINE_STATE": str(folder),
        "FLIGHTLINE_BIND": f"{HOST}:{port}",
    }


def _databases(settings: Settings) -> dict[str, str]:
    """For all but the doors, which need none and are the ones that anyone may reach."""
    return {
        "FLIGHTLINE_POSTGRES": settings.addresses.postgres,
        "FLIGHTLINE_CLICKHOUSE": settings.addresses.clickhouse,
    }


def ingest(settings: Settings) -> list[ProcessSpec]:
    """The doors: they share one port."""
    port = settings.ports.ingest
    return [
        ProcessSpec(
            name="ingest",
            log=f"ingest-{worker}",
            argv=[sys.executable, "-m", "ingest"],
            env=environment(settings, "ingest", port) | {"FLIGHTLINE_GRACE_MS": settings.ingest_grace_ms},
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
        env=environment(settings, "aggregator", port)
        | _databases(settings)
        | {
            "FLIGHTLINE_METRICS_BIND": bind,
            # Back within Kafka's session timeout, a restarted worker goes on without a rebalance.
            "FLIGHTLINE_GROUP_INSTANCE": f"aggregator-{worker}",
        },
        is_ready=lambda: responds(f"http://{bind}/ready"),
    )


def control_apis(settings: Settings) -> list[ProcessSpec]:
    """The control API, HTTP and gRPC: its processes share both ports."""
    port = settings.ports.control_api
    return [
        ProcessSpec(
            name="control_api",
            log="control_api" if worker == 0 else f"control_api-{worker}",
            argv=[sys.executable, "-m", "control_api"],
            env=control_api_environment(settings),
            is_ready=lambda: responds(f"http://{HOST}:{port}/ready"),
        )
        for worker in range(settings.control_apis)
    ]


def control_api_environment(settings: Settings) -> dict[str, str]:
    """Also what its bootstrap runs with."""
    return (
        environment(settings, "control_api", settings.ports.control_api)
        | _databases(settings)
        | {
            "FLIGHTLINE_GRPC_BIND": f"{HOST}:{settings.ports.grpc}",
            "FLIGHTLINE_JWT_SECRET": settings.secrets.jwt_secret,
            "FLIGHTLINE_INGEST_URL": f"http://{HOST}:{settings.ports.ingest}",
            # A stack of one machine is on loopback, and is asked there over http whether it is ready.
            "FLIGHTLINE_TLS_CERT": "",
            "FLIGHTLINE_TLS_KEY": "",
        }
    )
