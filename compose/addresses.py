"""Where the engines are: embedded ones on this stack's ports, or given in the environment."""

from collections.abc import Mapping

import msgspec

from compose.engines import clickhouse, postgres
from compose.layout import HOST, Ports
from compose.secrets import Secrets


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """Complete addresses, with credentials, and whether each engine is ours to run."""

    kafka: str
    postgres: str
    clickhouse: str
    clickhouse_dashboards: str
    embedded_kafka: bool = True
    embedded_postgres: bool = True
    embedded_clickhouse: bool = True

    @classmethod
    def choose(cls, environ: Mapping[str, str], ports: Ports, secrets: Secrets) -> "Addresses":
        """An engine whose address is in the environment (FLIGHTLINE_KAFKA, _POSTGRES, _CLICKHOUSE) is used
        where it is; the others are embedded.
        """
        embedded = clickhouse.url(ports.clickhouse, secrets.clickhouse_password)
        dashboards = clickhouse.url(ports.clickhouse, secrets.dashboards_password, user="dashboards")
        external = environ.get("FLIGHTLINE_CLICKHOUSE")
        return cls(
            kafka=environ.get("FLIGHTLINE_KAFKA") or f"{HOST}:{ports.kafka}",
            postgres=environ.get("FLIGHTLINE_POSTGRES")
            or postgres.dsn(ports.postgres, secrets.postgres_password),
            clickhouse=external or embedded,
            clickhouse_dashboards=environ.get("FLIGHTLINE_CLICKHOUSE_DASHBOARDS") or external or dashboards,
            embedded_kafka=not environ.get("FLIGHTLINE_KAFKA"),
            embedded_postgres=not environ.get("FLIGHTLINE_POSTGRES"),
            embedded_clickhouse=not external,
        )
