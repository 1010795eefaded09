"""One stack: engines, topics, tables and services, from the first process to the last."""

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog

from compose import services
from compose.addresses import Addresses
from compose.bootstrap import bootstrap, create_topics, migrate
from compose.engines import clickhouse, kafka, postgres
from compose.errors import StateInUseError
from compose.layout import HOST, Ports, State, require_free
from compose.process import Process, ProcessSpec, end_leftovers
from compose.ready import Ready
from compose.secrets import load_or_make, write_private
from compose.supervisor import Supervisor

log = structlog.get_logger(__name__)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What `flightline up` was asked for."""

    state: Path
    ready_file: Path | None = None
    ports: Ports = Ports()
    ingest: int = 1
    aggregators: int = 1
    control_apis: int = 1
    only_engines: bool = False


class Stack:
    """Brings a stack up and down. Use `running`, which also holds the lock on the state."""

    def __init__(self, options: Options, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
        self._options = options
        self._state = State(options.state.resolve())
        self._say = say
        self._environ = environ
        self._secrets = load_or_make(self._state.secrets)
        self.addresses = Addresses.choose(environ, options.ports, self._secrets)
        self._supervisor = Supervisor(self._state.logs, self._processes_changed)
        self._ready: Ready | None = None

    async def up(self) -> Ready:
        """Starts everything; returns when all is ready. Raises ComposeError; call down() in any case."""
        self._forget_ready()  # of a stack that was killed: who waits for the file must not read that
        self._end_leftovers()
        require_free(self._wanted_ports())
        engines = await self._engines()
        if engines:
            self._say(f"starting {', '.join(spec.name for spec in engines)}")
            await self._supervisor.start(engines)
        if self.addresses.embedded_postgres:
            await postgres.ensure_database(self._options.ports.postgres, self._secrets.postgres_password)
        keys = self._addresses_only() if self._options.only_engines else await self._services()
        self._ready = keys
        self._publish(keys)
        return keys

    async def down(self) -> None:
        """Stops everything, services before engines."""
        self._ready = None
        await self._supervisor.stop()
        self._forget_ready()

    async def _engines(self) -> list[ProcessSpec]:
        """The engines that are to run here, prepared at the same time: each takes a second at first."""
        data, ports, secrets = self._state.data, self._options.ports, self._secrets
        preparing: list[Coroutine[Any, Any, ProcessSpec]] = []
        if self.addresses.embedded_kafka:
            preparing.append(kafka.prepare(data("kafka"), ports.kafka, ports.kafka_controller))
        if self.addresses.embedded_postgres:
            preparing.append(postgres.prepare(data("postgres"), ports.postgres, secrets.postgres_password))
        if self.addresses.embedded_clickhouse:
            preparing.append(
                clickhouse.prepare(
                    data("clickhouse"),
                    ports.clickhouse,
                    secrets.clickhouse_password,
                    secrets.dashboards_password,
                )
            )
        return list(await asyncio.gather(*preparing))

    async def _services(self) -> Ready:
        self._say("topics, tables, keys")
        await asyncio.gather(create_topics(self.addresses), migrate(self.addresses))
        settings = services.Settings(
            state=self._state,
            ports=self._options.ports,
            addresses=self.addresses,
            secrets=self._secrets,
            ingest=self._options.ingest,
            aggregators=self._options.aggregators,
            control_apis=self._options.control_apis,
            ingest_grace_ms=self._environ.get("FLIGHTLINE_GRACE_MS", "0"),
        )
        made = await bootstrap(settings, self._state.secrets)
        settings = msgspec.structs.replace(settings, secrets=made.secrets)
        self._say("starting aggregator, control_api, ingest")
        # At the same time, but two groups: the aggregators are stopped after those who feed them.
        await asyncio.gather(
            self._supervisor.start(services.aggregators(settings)),
            self._supervisor.start([*services.control_apis(settings), *services.ingest(settings)]),
        )
        return msgspec.structs.replace(
            self._addresses_only(),
            admin_token=made.admin_token,
            write_key=made.secrets.write_key,
            server_key=made.secrets.server_key,
        )

    def _addresses_only(self) -> Ready:
        ports, addresses = self._options.ports, self.addresses
        return Ready(
            ingest=f"http://127.0.0.1:{ports.ingest}",
            control_api=f"http://127.0.0.1:{ports.control_api}",
            grpc=f"127.0.0.1:{ports.grpc}",
            clickhouse=addresses.clickhouse,
            postgres=addresses.postgres,
            kafka=addresses.kafka,
            admin_token="",
            write_key="",
            server_key="",
            processes=_by_name(self._supervisor.processes),
        )

    def _wanted_ports(self) -> dict[str, int]:
        ports, wanted = self._options.ports, dict[str, int]()
        if self.addresses.embedded_kafka:
            wanted |= {"Kafka": ports.kafka, "Kafka's controller": ports.kafka_controller}
        if self.addresses.embedded_postgres:
            wanted["Postgres"] = ports.postgres
        if self.addresses.embedded_clickhouse:
            wanted["ClickHouse"] = ports.clickhouse
        if not self._options.only_engines:
            wanted |= {"control API": ports.control_api, "gRPC": ports.grpc, "ingest": ports.ingest}
            for index in range(self._options.aggregators):
                wanted[f"metrics of aggregator {index}"] = ports.aggregator_metrics + index
        return wanted

    def _end_leftovers(self) -> None:
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            recorded = msgspec.json.decode(self._state.running.read_bytes(), type=list[tuple[int, float]])
            if count := end_leftovers(recorded):
                self._say(f"ended {count} processes that a killed stack had left")

    def _processes_changed(self, processes: list[Process]) -> None:
        recorded = [(process.pid, process.started_at) for process in processes]
        write_private(self._state.running, msgspec.json.encode(recorded))
        if self._ready is not None:
            self._ready = msgspec.structs.replace(self._ready, processes=_by_name(processes))
            self._publish(self._ready)

    def _forget_ready(self) -> None:
        for file in (self._options.ready_file, self._state.ready):
            if file is not None:
                file.unlink(missing_ok=True)

    def _publish(self, ready: Ready) -> None:
        content = msgspec.json.format(msgspec.json.encode(ready)) + b"\n"
        for file in (self._state.ready, self._options.ready_file):
            if file is not None:
                write_private(file, content)


def _by_name(processes: list[Process]) -> dict[str, list[int]]:
    names = ("kafka", "postgres", "clickhouse", "ingest", "aggregator", "control_api")
    return {name: [process.pid for process in processes if process.spec.name == name] for name in names}


@contextlib.contextmanager
def locked(state: State) -> Iterator[None]:
    """Holds the state for this process; StateInUseError when another one has it.

    The lock goes with the process, however that ends, and is not inherited by its children.
    """
    state.root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(state.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateInUseError(
                f"another stack runs on {state.root}: stop it, or choose another folder with --state DIR "
                "(and other ports with --port-base N)."
            ) from None
        yield
    finally:
        os.close(descriptor)


async def run(options: Options, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Brings a stack up, and down again at SIGTERM or Ctrl-C. Raises ComposeError when it can't be had."""
    with locked(State(options.state.resolve())):
        stop = _on_signals()
        stack = Stack(options, environ, say)
        starting = asyncio.create_task(stack.up())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                say(_announcement(options, await starting, stack.addresses))
                await stopping
        finally:
            for task in (starting, stopping):
                task.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)
            say("stopping")
            await stack.down()


def _on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    return stop


def _announcement(options: Options, ready: Ready, addresses: Addresses) -> str:
    lines = {
        "events in": f"{ready.ingest}/v1/events",
        "control API": f"{ready.control_api}",
        "ClickHouse (read only)": addresses.clickhouse_dashboards,
        "Kafka": ready.kafka,
    }
    for index in range(0 if options.only_engines else options.aggregators):
        port = options.ports.aggregator_metrics + index
        lines[f"live windows ({index})"] = f"http://{HOST}:{port}/metrics"
    return "up\n" + "\n".join(f"  {name:<24}{value}" for name, value in lines.items())
