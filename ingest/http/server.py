"""Listens, keeps the connections, and ends those whose clients take too long."""

import asyncio
import socket
from functools import partial
from http import HTTPStatus

from ingest.http.connection import Connection
from ingest.http.message import Application, plain

_SWEEP_SECONDS = 0.25
_FULL = plain(
    HTTPStatus.SERVICE_UNAVAILABLE, "the door has as many connections as it can", ("retry-after", "1")
)


class Server:
    """Serves an application at one address."""

    def __init__(
        self,
        application: Application,
        *,
        max_connections: int,
        head_seconds: float,
        body_seconds: float,
    ) -> None:
        self.application = application
        self.head_seconds = head_seconds
        self.body_seconds = body_seconds
        self._max = max_connections
        self._connections: set[Connection] = set()
        self._listening: asyncio.Server | None = None

    async def start(self, bound: socket.socket) -> None:
        """Listens on a socket that is bound; returns when connections are accepted."""
        self._listening = await asyncio.get_running_loop().create_server(
            partial(Connection, self), sock=bound, backlog=self._max
        )

    async def run(self) -> None:
        """Ends what takes too long, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = loop.time()
            for connection in tuple(self._connections):
                connection.check(now, self)

    def stop(self) -> None:
        """Accepts nothing more, and closes all connections."""
        if self._listening is not None:
            self._listening.close()
        for connection in tuple(self._connections):
            connection.close()

    def opened(self, connection: Connection) -> None:
        """Beyond the limit a client is told so and let go: it could otherwise wait for ever for its turn."""
        self._connections.add(connection)
        if len(self._connections) > self._max:
            connection.dismiss(_FULL)

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)


def bound_to(host: str, port: int) -> socket.socket:
    """A socket at this address, which others may share (SO_REUSEPORT); `::` is all of both protocols.

    Raises OSError when another program has it.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound
