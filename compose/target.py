"""Which stack a command means: the one that runs on a state, or clusters named in the environment."""

from collections.abc import Mapping

import msgspec

from compose import ready
from compose.addresses import Addresses
from compose.layout import State

VARIABLES = {
    "kafka": "FLIGHTLINE_KAFKA",
    "postgres": "FLIGHTLINE_POSTGRES",
    "clickhouse": "FLIGHTLINE_CLICKHOUSE",
}


def addresses(state: State, environ: Mapping[str, str]) -> Addresses:
    """Each engine's address from the environment, else from the stack that runs on the state.

    Raises ComposeError when one is in neither.
    """
    given = {name: environ[variable] for name, variable in VARIABLES.items() if environ.get(variable)}
    embedded = {f"embedded_{name}": name not in given for name in VARIABLES}
    if len(given) < len(VARIABLES):
        running = ready.read(state)
        given = {name: getattr(running, name) for name in VARIABLES} | given
    return msgspec.convert(
        {**given, **embedded, "clickhouse_dashboards": given["clickhouse"]}, type=Addresses
    )
