"""The ready file of a running stack."""

import msgspec

from compose.errors import ComposeError
from compose.layout import State


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach everything, as whom, and which processes there are (role → pids).

    `clickhouse`, `postgres` and `kafka` are complete addresses, with credentials where there are any.
    """

    ingest: str
    control_api: str
    grpc: str
    clickhouse: str
    postgres: str
    kafka: str
    admin_token: str
    write_key: str
    server_key: str
    processes: dict[str, list[int]]


def read(state: State) -> Ready:
    """What runs on this state; ComposeError when nothing does."""
    try:
        return msgspec.json.decode(state.ready.read_bytes(), type=Ready)
    except FileNotFoundError:
        raise ComposeError(
            f"no stack runs on {state.root}: start it with `flightline up --state {state.root}`, "
            "or name the folder of the one that runs with --state."
        ) from None
