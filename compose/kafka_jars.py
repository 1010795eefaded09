"""`python -m compose.kafka_jars`: fetches Kafka's jars as pinned in kafka.sha256, unless they are there, and
prepares Kafka's classes for quick starts (engines/kafka_cache.py).

`--pin` resolves Kafka's dependencies anew and writes kafka.sha256, for an upgrade of Kafka.
"""

import asyncio
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import requests
from aiokafka.errors import KafkaError
from jgo.maven import MavenContext
from jgo.parse import Endpoint
from rich.console import Console
from rich.progress import track

from compose.engines import kafka_cache
from compose.engines.kafka_pins import (
    KAFKA_VERSION,
    PINS_FILE,
    Pin,
    is_pinned,
    jars_folder,
    read_pins,
)
from compose.errors import ComposeError, PinnedFileError

# Resolved one after the other: together, the second would change the versions that Kafka was released with.
# Kafka's own jars name no binding for slf4j; without one the broker would log nothing at all.
ROOTS = (f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.3")
_TIMEOUT_S = 60
_PARALLEL = 8


def fetch(pins: tuple[Pin, ...], folder: Path, console: Console) -> int:
    """Brings every pinned jar that is missing or damaged into `folder`; returns how many were fetched.

    Raises PinnedFileError when a file that was fetched is not the pinned one; it is not kept then.
    """
    missing = [pin for pin in pins if not is_pinned(folder / pin.file_name, pin)]
    if not missing:
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    with (
        # In the same file system: a verified jar is put in its place by a rename, whole or not at all.
        tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as repository,
        ThreadPoolExecutor(_PARALLEL) as pool,
    ):
        context = MavenContext(repo_cache=Path(repository), timeout=_TIMEOUT_S)
        fetched = pool.map(lambda pin: _fetch_one(context, pin, folder), missing)
        for _ in track(fetched, f"Kafka {KAFKA_VERSION}", total=len(missing), console=console):
            pass
    return len(missing)


def _fetch_one(context: MavenContext, pin: Pin, folder: Path) -> None:
    group, artifact, version = pin.coordinate.split(":")
    try:
        jar: Path = context.project(group, artifact).at_version(version).artifact().resolve()
    except (requests.RequestException, RuntimeError) as error:
        raise ComposeError(
            f"{pin.file_name} could not be fetched, is the network there? ({error})"
        ) from error
    if not is_pinned(jar, pin):
        found = hashlib.sha256(jar.read_bytes()).hexdigest()
        raise PinnedFileError(
            f"{pin.file_name} as fetched is not the file that is pinned in {PINS_FILE.name}: "
            f"expected SHA-256 {pin.sha256}, got {found}; it was not installed."
        )
    jar.replace(folder / pin.file_name)


def resolve_pins() -> Iterator[Pin]:
    """What Kafka needs by its published dependencies, each with the digest of the file now served."""
    seen: set[str] = set()
    repository = Path(tempfile.mkdtemp())
    try:
        context = MavenContext(repo_cache=repository, timeout=_TIMEOUT_S)
        for root in ROOTS:
            wanted = [replace(c, scope="compile") for c in Endpoint.parse(root).coordinates]
            inputs, transitive = context.resolver.resolve([context.create_dependency(c) for c in wanted])
            needed = [*inputs, *(d for d in transitive if d.scope in {"compile", "runtime"})]
            for artifact in (dependency.artifact for dependency in needed):
                name = f"{artifact.groupId}:{artifact.artifactId}"
                if name not in seen:
                    seen.add(name)
                    digest = hashlib.sha256(artifact.resolve().read_bytes()).hexdigest()
                    yield Pin(digest, f"{name}:{artifact.version}")
    finally:
        shutil.rmtree(repository)


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    console = Console(stderr=True)
    if arguments == ["--pin"]:
        pins = sorted(resolve_pins(), key=lambda pin: pin.coordinate)
        PINS_FILE.write_text("".join(f"{pin.sha256}  {pin.coordinate}\n" for pin in pins))
        return 0
    try:
        count = fetch(read_pins(), jars_folder(), console)
    except ComposeError as error:
        console.print(f"[red]{error}[/red]", highlight=False)
        return 1
    if count:
        console.print(f"Kafka {KAFKA_VERSION}: {count} jars fetched and verified", highlight=False)
    try:
        asyncio.run(kafka_cache.make())
    except (ComposeError, KafkaError, OSError, TimeoutError) as error:
        # It runs without as well, only its start takes longer.
        console.print(f"Kafka's classes could not be prepared: {error}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
