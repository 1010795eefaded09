"""Names of strangers' hosts: looked up in threads of their own, so that nobody else waits for a slow one."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

Infos = list[tuple[Any, ...]]
_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class OwnResolver(AbstractResolver):
    """For an HTTP client. aiohttp's own one looks names up in the loop's threads, a few more than there are
    processors: some slow names there, and the whole process makes no connection by name any more.

    A lookup cannot be ended, only left: so there is one of a name at a time, which whoever asks for that name
    waits for, and at most `most` in all. Its thread does not hold up the end of the process.
    """

    def __init__(
        self, *, most: int, seconds: float, look_up: Callable[..., Infos] = socket.getaddrinfo
    ) -> None:
        self._most = most
        self._seconds = seconds
        self._look_up = look_up
        self._under_way: dict[tuple[str, int], asyncio.Future[Infos]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a name. Raises OSError, also when that takes too long."""
        looking = self._under_way.get((host, family)) or self._begin(host, family)
        try:
            async with asyncio.timeout(self._seconds):
                infos = await asyncio.shield(looking)
        except TimeoutError:
            raise OSError(f"the name was not found within {self._seconds:g} s") from None
        found = [_result(host, port, info) for info in infos if _is_usable(info)]
        if not found:
            raise OSError("the name has no address")
        return found

    async def close(self) -> None:
        """What is under way is left to itself."""

    def _begin(self, host: str, family: int) -> asyncio.Future[Infos]:
        if len(self._under_way) >= self._most:
            raise OSError("too many names are being looked up")
        loop = asyncio.get_running_loop()
        looking: asyncio.Future[Infos] = loop.create_future()
        self._under_way[host, family] = looking
        looking.add_done_callback(partial(self._ended, (host, family)))
        Thread(target=self._run, args=(loop, looking, host, family), daemon=True).start()
        return looking

    def _run(
        self, loop: asyncio.AbstractEventLoop, looking: asyncio.Future[Infos], host: str, family: int
    ) -> None:
        settle: Callable[[], None]
        try:
            infos = self._look_up(host, 0, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
            settle = partial(looking.set_result, infos)
        except Exception as error:  # noqa: BLE001  whoever waits for the name is told
            settle = partial(looking.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle)

    def _ended(self, key: tuple[str, int], looking: asyncio.Future[Infos]) -> None:
        del self._under_way[key]
        looking.exception()  # whoever waited has it, or nobody waits any more


def _is_usable(info: tuple[Any, ...]) -> bool:
    """Not so are addresses that only mean something on one of our own links."""
    family, address = info[0], info[4]
    return family == socket.AF_INET or (family == socket.AF_INET6 and not address[3])


def _result(host: str, port: int, info: tuple[Any, ...]) -> ResolveResult:
    family, _, protocol, _, address = info
    return ResolveResult(
        hostname=host, host=address[0], port=port, family=family, proto=protocol, flags=_NUMERIC
    )
