"""Which stack a command means: the one that runs on a state, or clusters named in the environment."""

from collections.abc import Mapping

import msgspec

from compose import ready
from compose.addresses import CLICKHOUSE, KAFKA, POSTGRES, Addresses, given
from compose.layout import State

VARIABLES = {"kafka": KAFKA, "postgres": POSTGRES, "clickhouse": CLICKHOUSE}


def addresses(state: State, environ: Mapping[str, str]) -> Addresses:
    """Each engine's address from the environment, else from the stack that runs on the state.

    Raises ComposeError when one is in neither, or is none.
    """
    elsewhere = given(environ)
    found = {name: elsewhere[variable] for name, variable in VARIABLES.items() if variable in elsewhere}
    embedded = {f"embedded_{name}": name not in found for name in VARIABLES}
    if len(found) < len(VARIABLES):
        running = ready.read(state)
        found = {name: getattr(running, name) for name in VARIABLES} | found
    return msgspec.convert(
        {**found, **embedded, "clickhouse_dashboards": found["clickhouse"]}, type=Addresses
    )
