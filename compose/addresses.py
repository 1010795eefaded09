"""Where the engines are: embedded ones on this stack's ports, or given in the environment."""

from collections.abc import Mapping

import msgspec

from compose.engines import clickhouse, postgres
from compose.errors import ComposeError
from compose.layout import HOST, Ports
from compose.secrets import Secrets
from schemas.addresses import BadAddress, http_url, kafka_servers, postgres_dsn

KAFKA, POSTGRES, CLICKHOUSE = "FLIGHTLINE_KAFKA", "FLIGHTLINE_POSTGRES", "FLIGHTLINE_CLICKHOUSE"
DASHBOARDS = "FLIGHTLINE_CLICKHOUSE_DASHBOARDS"
_CHECKS = {KAFKA: kafka_servers, POSTGRES: postgres_dsn, CLICKHOUSE: http_url, DASHBOARDS: http_url}


def given(environ: Mapping[str, str]) -> dict[str, str]:
    """The addresses in the environment, by variable. Raises ComposeError for one that is none."""
    try:
        return {name: check(name, environ[name]) for name, check in _CHECKS.items() if environ.get(name)}
    except BadAddress as error:
        raise ComposeError(str(error)) from None


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
        where it is; the others are embedded. Raises ComposeError.
        """
        embedded = clickhouse.url(ports.clickhouse, secrets.clickhouse_password)
        dashboards = clickhouse.url(ports.clickhouse, secrets.dashboards_password, user="dashboards")
        elsewhere = given(environ)
        external = elsewhere.get(CLICKHOUSE)
        return cls(
            kafka=elsewhere.get(KAFKA) or f"{HOST}:{ports.kafka}",
            postgres=elsewhere.get(POSTGRES) or postgres.dsn(ports.postgres, secrets.postgres_password),
            clickhouse=external or embedded,
            clickhouse_dashboards=elsewhere.get(DASHBOARDS) or external or dashboards,
            embedded_kafka=KAFKA not in elsewhere,
            embedded_postgres=POSTGRES not in elsewhere,
            embedded_clickhouse=external is None,
        )
