"""The promises file: one JSON line for each event that the door has answered."""

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import msgspec

from compose.replay.door import Result
from compose.replay.errors import InvalidOption
from compose.replay.plan import OutgoingEvent
from schemas.reasons import EventType


class Promise(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """What was answered for one event. `cost` is what the sender stated, in micros."""

    event_id: str
    campaign_id: str
    type: EventType
    cost: int
    status: str
    reason: str = ""


_encoder = msgspec.json.Encoder()


class PromisesFile:
    """Appends; each call is flushed, so that what was answered is kept when the replay is killed. A killed
    writer may leave a last line that is cut off: it is ended, so the next line stands alone.

    InvalidOption when the file can't be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file: BinaryIO = path.open("ab+")
        except OSError as error:
            raise InvalidOption(f"--promises {path}: {error.strerror}.") from error
        if self._file.tell():
            self._file.seek(-1, 2)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")

    def append(self, answered: Iterable[tuple[OutgoingEvent, Result]]) -> None:
        self._file.write(_encoder.encode_lines([_promise(event, result) for event, result in answered]))
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _promise(event: OutgoingEvent, result: Result) -> Promise:
    return Promise(
        event.event_id, event.campaign_id, event.type, event.cost, result.status.value, result.reason
    )
