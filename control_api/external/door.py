"""A door, over HTTP, with connections that are kept."""

from collections.abc import Mapping

import aiohttp
import msgspec
import structlog

from control_api.errors import DoorUnavailable
from control_api.handlers.track import DoorAnswer, Result

log = structlog.get_logger(__name__)

_CONNECTIONS = 128
_KEPT_SECONDS = 8.0
"""A door closes a connection after 10 s without a request."""
_TIMES = aiohttp.ClientTimeout(total=3.0, sock_connect=1.0)
_TRIES = 2
_LOST = (aiohttp.ClientError, TimeoutError, OSError)


class _Results(msgspec.Struct):
    results: list[Result]


class _Problem(msgspec.Struct):
    detail: str = ""


_results = msgspec.json.Decoder(_Results)
_problem = msgspec.json.Decoder(_Problem)


class HttpDoor:
    """Implements handlers.track.Door."""

    def __init__(self, url: str | None) -> None:
        self._url = f"{url.rstrip('/')}/v1/events" if url else None
        self._session: aiohttp.ClientSession | None = None

    async def send(self, key: str, event: bytes, headers: dict[str, str]) -> DoorAnswer:
        """Sends one event; once more when a kept connection turns out to be closed, which is safe, because
        the event has an id."""
        if self._url is None:
            raise DoorUnavailable("no door is set up here: FLIGHTLINE_INGEST_URL is not set")
        for attempt in range(1, _TRIES + 1):
            try:
                return await self._send(self._url, key, event, headers)
            except aiohttp.ClientConnectorError as error:
                raise _lost(error) from error
            except aiohttp.ClientConnectionError as error:
                if attempt == _TRIES:
                    raise _lost(error) from error
            except (*_LOST, msgspec.MsgspecError) as error:
                raise _lost(error) from error
        raise AssertionError("the last try returns or raises")

    async def close(self) -> None:
        """Ends its connections."""
        if self._session is not None:
            await self._session.close()

    async def _send(self, url: str, key: str, event: bytes, headers: Mapping[str, str]) -> DoorAnswer:
        told = {**headers, "Content-Type": "application/json", "X-Write-Key": key}
        async with self._opened().post(url, data=event, headers=told) as response:
            body = await response.read()
            if response.status in (202, 422):
                return DoorAnswer(response.status, _results.decode(body).results[0])
            retry_after = response.headers.get("Retry-After", "1")
            detail = _problem.decode(body).detail if "json" in response.content_type else ""
            return DoorAnswer(response.status, None, detail, retry_after)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=_KEPT_SECONDS),
                timeout=_TIMES,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def _lost(error: BaseException) -> DoorUnavailable:
    log.warning("door.unavailable", error=repr(error))
    return DoorUnavailable("the door did not answer: whether the event counts is not known; send it again")
