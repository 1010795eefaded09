"""HTTP to subscribers of webhooks: strangers' URLs, so the way there and what comes back are bounded."""

import contextlib
import errno
import socket
import time
from collections.abc import Mapping
from typing import Any

import aiohttp

from control_api.domain.addresses import is_public
from control_api.domain.deliveries import Reply
from control_api.external.names import OwnResolver

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
_USER_AGENT = "Flightline-Webhooks/1.0"
_CONNECT_SECONDS = 5.0
_NAME_SECONDS = 5.0
_NAMES_A_CONNECTION = 4
"""Lookups that may be under way: one that was given up goes on for as long as the system waits."""

_SNIPPET_BYTES = 1_024
_NOT_PUBLIC = "the address is not public"
_SENTENCES: dict[type[Exception], str] = {
    aiohttp.ClientConnectorDNSError: "the host's name cannot be resolved",
    aiohttp.ClientSSLError: "no connection by TLS: the certificate or the protocol was refused",
    aiohttp.ClientConnectorError: "no connection",
    aiohttp.InvalidURL: "the URL cannot be used",
}


class HttpSubscribers:
    """Implements handlers.webhook_ports.Subscribers.

    An address is looked at where its socket is made, whatever a name was resolved to and however it is
    written: what was checked is what is connected to. Redirects are answers like any other.
    """

    def __init__(self, *, private: bool, connections: int, seconds: float = 15.0) -> None:
        self._private = private
        self._connections = connections
        self._timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=_CONNECT_SECONDS)
        self._seconds = seconds
        self._session: aiohttp.ClientSession | None = None

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """One POST, within bounded time; whatever goes wrong is told in the reply."""
        began = time.monotonic()
        try:
            status, text, retry_after = await self._post(url, headers, body)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Reply(error=_told(error, self._seconds), milliseconds=_since(began))
        error_text = None if status in range(200, 300) else f"answered {status}"
        return Reply(
            status=status, text=text, error=error_text, retry_after=retry_after, milliseconds=_since(began)
        )

    async def close(self) -> None:
        """Ends all connections."""
        if self._session is not None:
            await self._session.close()

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str, str | None]:
        sent = {"Content-Type": CONTENT_TYPE, **headers}
        async with self._opened().post(url, data=body, headers=sent, allow_redirects=False) as response:
            snippet = await _beginning(response)
            # What is left of the body is nobody's: the connection ends with it.
            response.close()
            return response.status, snippet, response.headers.get("Retry-After")

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._connections,
                    force_close=True,
                    socket_factory=self._socket,
                    resolver=OwnResolver(most=_NAMES_A_CONNECTION * self._connections, seconds=_NAME_SECONDS),
                ),
                headers={"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=self._timeout,
                auto_decompress=False,
            )
        return self._session

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = info
        if not self._private and not is_public(address[0]):
            raise PermissionError(errno.EACCES, _NOT_PUBLIC)
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made


async def _beginning(response: aiohttp.ClientResponse) -> str:
    """The beginning of the body, as text that Postgres can hold. The status has said what came of it, even
    when the body does not end."""
    read = b""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        while len(read) < _SNIPPET_BYTES and (
            part := await response.content.read(_SNIPPET_BYTES - len(read))
        ):
            read += part
    return read.decode("utf-8", errors="replace").replace("\0", "\ufffd")


def _told(error: Exception, seconds: float) -> str:
    """A sentence for the subscriber's owner: nothing of our side's network stands in it."""
    if isinstance(error, TimeoutError):
        return f"no answer within {seconds:g} s"
    if _NOT_PUBLIC in str(error):
        return "the host does not lead to a public address"
    return next(
        (sentence for kind, sentence in _SENTENCES.items() if isinstance(error, kind)),
        "the connection broke off, or what came was not HTTP",
    )


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
