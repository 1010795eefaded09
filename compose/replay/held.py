"""Events of closed campaigns, in order, until the campaign opens: in memory at first, then on the disk."""

import tempfile
from itertools import islice

import msgspec

from compose.replay.plan import OutgoingEvent

_IN_MEMORY_BYTES = 8 * 1024 * 1024

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(OutgoingEvent)
_LENGTH_BYTES = 4


class HeldEvents:
    """A queue of one campaign. Beyond some megabytes it lies in a temporary file, so a long pause in a large
    file costs disk and not memory."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115  close() is ours
        self._read_at = 0
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def append(self, event: OutgoingEvent) -> None:
        self._file.seek(0, 2)
        packed = _encoder.encode(event)
        self._file.write(len(packed).to_bytes(_LENGTH_BYTES) + packed)
        self._waiting += 1

    def take(self, most: int) -> list[OutgoingEvent]:
        """The oldest events, which are held no longer."""
        self._file.seek(self._read_at)
        taken = [self._next() for _ in islice(range(self._waiting), most)]
        self._waiting -= len(taken)
        self._read_at = self._file.tell()
        if not self._waiting:
            self._file.seek(0)
            self._file.truncate()
            self._read_at = 0
        return taken

    def close(self) -> None:
        self._file.close()

    def _next(self) -> OutgoingEvent:
        size = int.from_bytes(self._file.read(_LENGTH_BYTES))
        return _decoder.decode(self._file.read(size))
