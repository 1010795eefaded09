"""The jars that Kafka runs on: which they are, where they lie, and that they are the ones pinned here."""

import hashlib
import sys
from pathlib import Path

import msgspec

from compose.errors import PinnedFileError

PINS_FILE = Path(__file__).parent.parent / "kafka.sha256"
KAFKA_VERSION = "4.1.2"


class Pin(msgspec.Struct, frozen=True):
    """One jar: its coordinate `group:artifact:version` and the SHA-256 of the file."""

    sha256: str
    coordinate: str

    @property
    def file_name(self) -> str:
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


def read_pins(file: Path = PINS_FILE) -> tuple[Pin, ...]:
    """The pinned jars, one `sha256  group:artifact:version` a line."""
    lines = (line.split() for line in file.read_text().splitlines())
    return tuple(Pin(sha256, coordinate) for sha256, coordinate in lines)


def jars_folder() -> Path:
    """Beside the Python that runs this: per project in a virtual environment, and part of a Docker layer."""
    return Path(sys.prefix) / "share" / "flightline" / f"kafka-{KAFKA_VERSION}"


def is_pinned(file: Path, pin: Pin) -> bool:
    """Whether the file is there and has the pinned content."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() == pin.sha256
    except FileNotFoundError:
        return False


def classpath(folder: Path | None = None, pins: tuple[Pin, ...] | None = None) -> str:
    """The class path for Kafka: pinned jars, each verified now, and nothing else that lies in the folder.

    Raises PinnedFileError when one is missing or differs.
    """
    folder = folder or jars_folder()
    pins = pins or read_pins()
    for pin in pins:
        if not is_pinned(folder / pin.file_name, pin):
            state = "is not the file that is pinned" if (folder / pin.file_name).exists() else "is missing"
            raise PinnedFileError(
                f"Kafka's {pin.file_name} {state} in {folder}: fetch it with `make setup` "
                f"(or `python -m compose.kafka_jars`)."
            )
    return ":".join(str(folder / pin.file_name) for pin in pins)
