"""A subscriber of webhooks: a real HTTP server that keeps what it gets."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
from aiohttp import web
from standardwebhooks.webhooks import Webhook

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Got(NamedTuple):
    """A request as it came."""

    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        return dict(msgspec.json.decode(self.body))

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verify(self, secret: str) -> dict[str, Any]:
        """As a subscriber does, with the standard's own library; raises unless the signature is right."""
        return dict(Webhook(secret).verify(self.body, self.headers))


class Subscriber:
    """Answers each path as it was told to, 204 otherwise; `got` is by path."""

    def __init__(self) -> None:
        self.url = ""
        self.got: dict[str, list[Got]] = defaultdict(list)
        self._answers: dict[str, Answer] = {}

    def at(self, path: str, answer: Answer | int) -> str:
        """The URL of a path that answers so, a status or more than that."""

        async def status(_: web.Request) -> web.Response:
            return web.Response(status=answer)  # type: ignore[arg-type]  # an int, in this case

        self._answers[path] = status if isinstance(answer, int) else answer
        return self.url + path

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Keeps what came before it answers."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.got[request.path].append(Got(headers, await request.read()))
        answer = self._answers.get(request.path)
        return await answer(request) if answer else web.Response(status=204)

    def of(self, path: str, subject: str) -> list[Got]:
        """What came to a path about one campaign or webhook."""
        return [got for got in self.got[path] if got.event["subject"] == subject]


class Gate:
    """An answer that is held back until it is let go."""

    def __init__(self, status: int = 200) -> None:
        self.waiting = 0
        self._open = asyncio.Event()
        self._status = status

    async def __call__(self, _: web.Request) -> web.Response:
        """Waits."""
        self.waiting += 1
        await self._open.wait()
        return web.Response(status=self._status)

    def open(self) -> None:
        """Lets all answers go, those to come as well."""
        self._open.set()


@asynccontextmanager
async def running_subscriber() -> AsyncIterator[Subscriber]:
    """On a port of its own."""
    subscriber = Subscriber()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", subscriber.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    subscriber.url = f"http://127.0.0.1:{port}"
    try:
        yield subscriber
    finally:
        await runner.cleanup()
