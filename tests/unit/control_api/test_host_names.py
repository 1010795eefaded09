"""Names of hosts that take their time do not hold up others."""

import asyncio
import socket
import threading
from typing import Any

import pytest

from control_api.external.names import OwnResolver

V4 = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))
V6 = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0))
ON_A_LINK = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 0, 0, 2))


class Names:
    """What the system does: names that begin with `slow` are found when they are let go."""

    def __init__(self, *found: tuple[Any, ...]) -> None:
        self.asked: list[str] = []
        self.let_go = threading.Event()
        self._found = list(found) or [V4]

    def __call__(self, host: str, _port: int, **_: Any) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        if host.startswith("slow"):
            self.let_go.wait(10)
        if host == "unknown":
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return self._found


async def test_a_slow_name_is_given_up_and_looked_up_once_at_a_time() -> None:
    names = Names()
    resolver = OwnResolver(most=40, seconds=0.05, look_up=names)
    try:
        # More of them than the loop has threads.
        slow = [f"slow-{number}" for number in range(39)]
        given_up = await asyncio.gather(
            *(resolver.resolve(name) for name in slow * 2), return_exceptions=True
        )
        assert {type(error) for error in given_up} == {OSError}
        with pytest.raises(OSError, match=r"within 0\.05 s"):
            await resolver.resolve("slow-1")
        assert sorted(names.asked) == sorted(slow)
        assert (await resolver.resolve("quick", 443))[0]["host"] == "192.0.2.1"
        # The loop's own threads have nothing to do with it.
        assert await asyncio.to_thread(lambda: "free") == "free"
    finally:
        names.let_go.set()


async def test_no_more_names_are_looked_up_at_a_time_than_allowed() -> None:
    names = Names()
    resolver = OwnResolver(most=1, seconds=0.05, look_up=names)
    with pytest.raises(OSError, match="within"):
        await resolver.resolve("slow")
    with pytest.raises(OSError, match="too many"):
        await resolver.resolve("quick")
    names.let_go.set()

    async def found() -> str:
        while True:
            try:
                return (await resolver.resolve("quick"))[0]["host"]
            except OSError:
                await asyncio.sleep(0.01)

    assert await asyncio.wait_for(found(), 5) == "192.0.2.1"


async def test_addresses_are_told_as_the_client_needs_them() -> None:
    resolver = OwnResolver(most=4, seconds=5, look_up=Names(V6, ON_A_LINK, V4))
    found = await resolver.resolve("shop.example", 8443)
    assert [(one["host"], one["port"], one["hostname"]) for one in found] == [
        ("2001:db8::1", 8443, "shop.example"),
        ("192.0.2.1", 8443, "shop.example"),
    ]


@pytest.mark.parametrize("found", [[ON_A_LINK], [V4]])
async def test_a_name_without_an_address_is_an_error(found: list[tuple[Any, ...]]) -> None:
    resolver = OwnResolver(most=4, seconds=5, look_up=Names(*found))
    with pytest.raises(OSError):  # noqa: PT011  whatever the system says
        await resolver.resolve("unknown" if found == [V4] else "shop.example")
