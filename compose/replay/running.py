"""The running stack that a command talks to: by its state folder, or by its ready file."""

from pathlib import Path

import msgspec

from compose import ready
from compose.errors import ComposeError
from compose.layout import State
from compose.ready import Ready

DEFAULT_STATE = Path(".flightline")


def read_ready(ready_file: Path | None, state: Path) -> Ready:
    """What runs there. ComposeError when nothing does: the ready file goes away with the stack."""
    if ready_file is None:
        return ready.read(State(state))
    try:
        return msgspec.json.decode(ready_file.read_bytes(), type=Ready)
    except (OSError, msgspec.MsgspecError) as error:
        raise ComposeError(f"{ready_file} is not the ready file of a running stack: {error}.") from error
