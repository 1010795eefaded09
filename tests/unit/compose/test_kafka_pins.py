"""Only the pinned jars get on the class path."""

import hashlib
from pathlib import Path

import pytest

from compose.engines.kafka_pins import Pin, classpath, read_pins
from compose.errors import PinnedFileError

PIN = Pin(hashlib.sha256(b"jar").hexdigest(), "org.example:lib:1.0")


def test_every_pin_has_a_digest_and_a_coordinate_and_no_address() -> None:
    pins = read_pins()
    assert any(pin.file_name.startswith("kafka_2.13-4.1") for pin in pins)
    assert all(len(pin.sha256) == 64 and pin.coordinate.count(":") == 2 for pin in pins)


def test_the_class_path_holds_the_pinned_jars_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "lib-1.0.jar").write_bytes(b"jar")
    (tmp_path / "other.jar").write_bytes(b"not pinned")
    assert classpath(tmp_path, (PIN,)) == str(tmp_path / "lib-1.0.jar")


@pytest.mark.parametrize(
    ("content", "says"), [(b"another", "is not the file that is pinned"), (None, "is missing")]
)
def test_a_jar_that_differs_or_is_missing_is_refused_by_name(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / "lib-1.0.jar").write_bytes(content)
    with pytest.raises(PinnedFileError, match=f"lib-1.0.jar {says}.*make setup"):
        classpath(tmp_path, (PIN,))
