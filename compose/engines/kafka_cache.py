"""Kafka's classes, loaded and linked ahead of time: a broker that has them starts with half the work.

The JVM writes the cache at the end of a run that was told to (JEP 483 and 514). It fits one JVM and one class
path; with any other the JVM goes on without it.
"""

import asyncio
import contextlib
import socket
import tempfile
from pathlib import Path

from compose.engines.kafka import cache_file, prepare
from compose.errors import ComposeError
from compose.layout import HOST
from compose.process import ProcessSpec

_READY_WITHIN_S = 60
_WRITTEN_WITHIN_S = 120
_POLL_S = 0.05


async def ensure_cache() -> bool:
    """Makes the cache by a short run of a broker, unless it is there; whether it was made.

    Raises ComposeError when it can't be made: Kafka then starts as it is, a few seconds later.
    """
    cache = cache_file()
    if cache.exists():
        return False
    # In the same file system: the finished cache is put in its place by a rename.
    with tempfile.TemporaryDirectory(dir=cache.parent, prefix=".train-") as folder:
        written = Path(folder) / cache.name
        spec = await prepare(Path(folder) / "data", _free_port(), _free_port())
        await _run_once(spec, written)
        if not written.exists():
            raise ComposeError("the JVM wrote no cache of Kafka's classes")
        written.replace(cache)
    return True


async def _run_once(spec: ProcessSpec, written: Path) -> None:
    java, *arguments = map(str, spec.argv)
    broker = await asyncio.create_subprocess_exec(
        java,
        f"-XX:AOTCacheOutput={written}",
        *arguments,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_READY_WITHIN_S):
            while not await spec.is_ready():
                if broker.returncode is not None:
                    raise ComposeError(f"Kafka ended with code {broker.returncode} while it was learned from")
                await asyncio.sleep(_POLL_S)
        broker.terminate()
        await asyncio.wait_for(broker.wait(), _WRITTEN_WITHIN_S)
    except TimeoutError:
        raise ComposeError("Kafka did not start or end in time to be learned from") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            broker.kill()
        await broker.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
