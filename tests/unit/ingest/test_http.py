"""The door's HTTP/1.1, with an application that answers when it is told to."""

import asyncio
import socket
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from ingest.http.connection import Connection
from ingest.http.message import CLOSE, Answer, Reading, Request
from ingest.http.server import Server, bound_to
from ingest.http.wire import MAX_HEAD_BYTES
from tests.running import free_port

HOST = "127.0.0.1"
MANY = 8
WITHIN_S = 10.0


class Letter:
    """A request that was begun: its head, what came of its body, and how that ended."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.respond = request.respond
        self.body = b""
        self.end = ""

    def take(self, piece: bytes) -> None:
        self.body += piece

    def complete(self) -> None:
        self.end = "complete"
        if self.request.path == "/echo":
            self.respond(Answer(200, [("content-type", "text/plain")], self.body))

    def too_slow(self) -> None:
        self.end = "too slow"
        self.respond(Answer(408))

    def broke_off(self) -> None:
        self.end = "broke off"


class Desk:
    """Answers `/at-once` with its head, `/echo` with its body, and all else when the test does."""

    def __init__(self) -> None:
        self.letters: list[Letter] = []
        self.refusals: list[int] = []

    def refused(self, status: int) -> None:
        self.refusals.append(status)

    def begin(self, request: Request) -> Reading | None:
        if request.path == "/bug":
            raise ZeroDivisionError
        letter = Letter(request)
        self.letters.append(letter)
        if request.path in {"/at-once", "/at-once-and-no-more"}:
            request.respond(Answer(200, () if request.path == "/at-once" else [CLOSE], b"at once"))
            return None
        if request.path == "/large":
            request.respond(Answer(200, (), b"x" * 100_000))
            return None
        return letter

    async def until_begun(self, count: int) -> None:
        async with asyncio.timeout(WITHIN_S):
            while len(self.letters) < count:
                await asyncio.sleep(0.005)

    async def until_ended(self, letter: Letter) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not letter.end:
                await asyncio.sleep(0.005)


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def write(self, content: bytes) -> None:
        self.writer.write(content)

    async def answer(self, *, to_head: bool = False) -> tuple[int, dict[str, str], bytes]:
        """The next one."""
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), WITHIN_S)
        first, *lines = head.decode().split("\r\n")[:-2]
        headers = dict(line.split(": ", 1) for line in lines)
        length = 0 if to_head else int(headers.get("content-length", 0))
        return int(first.split()[1]), headers, await self._reader.readexactly(length)

    async def rest(self) -> bytes:
        """Whatever comes until the server has closed the connection."""
        with suppress(ConnectionError):
            return await asyncio.wait_for(self._reader.read(), WITHIN_S)
        return b""


class World:
    def __init__(self, desk: Desk, port: int) -> None:
        self.desk = desk
        self._port = port
        self._clients: list[Client] = []

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection(HOST, self._port))
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.writer.close()


@asynccontextmanager
async def serving(*, head_seconds: float = 60, body_seconds: float = 60) -> AsyncIterator[World]:
    desk = Desk()
    server = Server(desk, max_connections=MANY, head_seconds=head_seconds, body_seconds=body_seconds)
    port = free_port()
    await server.start(bound_to(HOST, port))
    sweeping = asyncio.create_task(server.run())
    world = World(desk, port)
    try:
        yield world
    finally:
        assert not sweeping.done()
        sweeping.cancel()
        server.stop()
        world.close()


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: door", f"Content-Length: {len(body)}", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


async def test_a_request_comes_with_its_head_and_its_body_and_the_connection_is_kept():
    async with serving() as world:
        client = await world.client()
        for body in (b"one", b"", b"three" * 100_000):
            client.write(post("/echo?a=b&c", body, "X-Write-Key: secret", "x-write-KEY: second"))
            status, headers, answered = await client.answer()
            assert (status, answered) == (200, body)
            assert headers.keys() == {"content-type", "content-length", "date"}
        request = world.desk.letters[0].request
        assert (request.method, request.path, request.query_string) == ("POST", "/echo", "a=b&c")
        assert request.headers["x-write-key"] == "secret"
        assert request.client.startswith(f"{HOST}:")


async def test_a_body_may_come_byte_by_byte_or_in_chunks():
    chunked = b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
    async with serving() as world:
        client = await world.client()
        for content, expected in ((post("/echo", b"drop by drop"), b"drop by drop"), (chunked, b"abcde")):
            for byte in content:
                client.write(bytes([byte]))
                await client.writer.drain()
                await asyncio.sleep(0)
            assert (await client.answer())[2] == expected


async def test_what_follows_a_body_is_no_header():
    body = b"1\r\na\r\n0\r\nContent-Encoding: gzip\r\n\r\n"
    async with serving() as world:
        client = await world.client()
        client.write(b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
        assert (await client.answer())[2] == b"a"
        assert world.desk.letters[0].request.headers.keys() == {"transfer-encoding"}


async def test_answers_keep_the_order_of_their_requests():
    async with serving() as world:
        client = await world.client()
        client.write(post("/first", b"1") + post("/second", b"2") + post("/at-once", b"3"))
        await world.desk.until_begun(3)
        world.desk.letters[1].respond(Answer(200, (), b"second"))
        await asyncio.sleep(0.05)
        world.desk.letters[0].respond(Answer(200, (), b"first"))
        assert [(await client.answer())[2] for _ in range(3)] == [b"first", b"second", b"at once"]


async def test_no_more_is_read_while_many_requests_wait_and_all_are_answered_in_the_end():
    count = 400
    async with serving() as world:
        client = await world.client()
        for number in range(count):
            client.write(post("/wait", b"x" * 4_000, f"X-Number: {number}"))
        answered = 0
        async with asyncio.timeout(WITHIN_S):
            while answered < count:
                await asyncio.sleep(0.01)
                begun = world.desk.letters[answered:]
                assert len(begun) <= 17, "what was parsed before, not all that was sent"
                for letter in begun:
                    letter.respond(Answer(200, (), letter.request.headers["x-number"].encode()))
                    answered += 1
        assert [(await client.answer())[2] for _ in range(count)] == [b"%d" % n for n in range(count)]


async def test_what_is_answered_before_its_body_has_come_is_followed_by_the_next_request():
    async with serving() as world:
        client = await world.client()
        client.write(post("/at-once", b"x" * 50_000)[:-40_000])
        assert (await client.answer())[2] == b"at once"
        client.write(b"x" * 40_000 + post("/echo", b"next"))
        assert (await client.answer())[2] == b"next"


async def test_the_rest_of_a_large_body_that_nobody_wants_ends_the_connection():
    async with serving() as world:
        client = await world.client()
        client.write(post("/at-once", b"x" * 3_000_000))
        assert (await client.answer())[2] == b"at once"
        assert await client.rest() == b""


@pytest.mark.parametrize(
    ("version", "connection", "said"),
    [
        ("1.1", "", None),
        ("1.1", "Connection: close\r\n", "close"),
        ("1.0", "", "close"),
        ("1.0", "Connection: keep-alive\r\n", "keep-alive"),
    ],
)
async def test_a_connection_is_kept_as_its_client_wants(version: str, connection: str, said: str | None):
    request = f"GET /at-once HTTP/{version}\r\n{connection}\r\n".encode()
    async with serving() as world:
        client = await world.client()
        client.write(request)
        _, headers, _ = await client.answer()
        assert headers.get("connection") == said
        if said != "close":
            client.write(request)
            assert (await client.answer())[0] == 200
        else:
            assert await client.rest() == b""


async def test_an_answer_that_closes_is_the_last_one():
    async with serving() as world:
        client = await world.client()
        client.write(post("/wait", b"1") + post("/wait", b"2"))
        await world.desk.until_begun(2)
        world.desk.letters[1].respond(Answer(200, (), b"2"))
        world.desk.letters[0].respond(Answer(503, [CLOSE], b"1"))
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (503, "close")
        assert await client.rest() == b""


async def test_a_head_request_is_told_of_the_body_and_gets_none():
    async with serving() as world:
        client = await world.client()
        client.write(b"HEAD /at-once HTTP/1.1\r\n\r\n")
        _, headers, body = await client.answer(to_head=True)
        assert (headers["content-length"], body) == ("7", b"")
        client.write(b"GET /at-once HTTP/1.1\r\n\r\n")
        assert (await client.answer())[2] == b"at once"


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_that_have_no_body_say_nothing_of_one(status: int):
    async with serving() as world:
        client = await world.client()
        client.write(post("/wait", b""))
        await world.desk.until_begun(1)
        world.desk.letters[0].respond(Answer(status))
        _, headers, _ = await client.answer()
        assert headers.keys() == {"date"}


async def test_a_client_that_asks_is_told_to_go_on():
    async with serving() as world:
        client = await world.client()
        head, _, body = post("/echo", b"body", "Expect: 100-continue").partition(b"\r\n\r\n")
        client.write(head + b"\r\n\r\n")
        assert (await client.answer())[0] == 100
        client.write(body)
        assert (await client.answer())[2] == b"body"


async def test_who_offers_another_protocol_is_answered_in_this_one():
    upgrade = (
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    )
    async with serving() as world:
        client = await world.client()
        for body in (b"with a body", b""):
            client.write(post("/echo", body, *upgrade) + post("/echo", b"next"))
            assert [(await client.answer())[2] for _ in range(2)] == [body, b"next"]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST /echo HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\nabc",
        b"POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nContent-Length: 1 \r\n 2\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nBad Name: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\nc: d\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: \x00\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_told_so_and_ended(garbage: bytes):
    async with serving() as world:
        client = await world.client()
        client.write(post("/echo", b"well") + garbage)
        assert (await client.answer())[2] == b"well"
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (400, "close")
        assert await client.rest() == b""


async def test_what_breaks_while_others_wait_is_told_after_their_answers():
    async with serving() as world:
        client = await world.client()
        client.write(post("/wait", b"") + b"rubbish\r\n\r\n")
        await world.desk.until_begun(1)
        await asyncio.sleep(0.05)
        world.desk.letters[0].respond(Answer(200, (), b"well"))
        assert [(await client.answer())[0] for _ in range(2)] == [200, 400]
        assert await client.rest() == b""


async def test_a_body_that_breaks_is_not_handed_over():
    async with serving() as world:
        client = await world.client()
        client.write(b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nzz\r\n")
        assert (await client.answer())[0] == 400
        assert world.desk.letters[0].end == "broke off"


async def test_a_head_without_end_is_refused():
    async with serving() as world:
        client = await world.client()
        with suppress(ConnectionError):
            client.write(b"GET / HTTP/1.1\r\n")
            for number in range(100):
                client.write(b"A%d: %b\r\n" % (number, b"x" * (MAX_HEAD_BYTES // 50)))
                await client.writer.drain()
        assert (await client.answer())[0] == 431
        assert not world.desk.letters


async def test_silence_and_slow_heads_end_a_connection_and_a_slow_answer_does_not():
    async with serving(head_seconds=0.5) as world:
        silent, begun, dripping, kept, waiting = [await world.client() for _ in range(5)]
        begun.write(b"GET / HTTP/1.1\r\n")
        dripping.write(b"GET / HTTP/1.1\r\n")
        kept.write(b"GET /at-once HTTP/1.1\r\n\r\n")
        waiting.write(post("/wait", b""))
        for _ in range(15):
            await asyncio.sleep(0.1)
            dripping.write(b"A: b\r\n")
        assert [await client.rest() for client in (silent, begun, dripping)] == [b""] * 3
        assert (await kept.answer())[2] == b"at once"
        assert await kept.rest() == b""
        world.desk.letters[-1].respond(Answer(200, (), b"at last"))
        assert (await waiting.answer())[2] == b"at last"


async def test_a_slow_body_is_answered_as_such():
    async with serving(body_seconds=0.5) as world:
        client, unwanted = await world.client(), await world.client()
        client.write(post("/echo", b"abc")[:-1])
        unwanted.write(post("/at-once", b"abc")[:-1])
        status, headers, _ = await client.answer()
        assert (status, headers["connection"]) == (408, "close")
        assert (await unwanted.answer())[2] == b"at once"
        assert [await client.rest(), await unwanted.rest()] == [b"", b""]
        assert world.desk.letters[0].end == "too slow"


async def test_a_client_that_leaves_is_noticed_and_its_answer_harms_nobody():
    async with serving() as world:
        leaving, gone, staying = [await world.client() for _ in range(3)]
        leaving.write(post("/echo", b"abc")[:-1])
        gone.write(post("/wait", b"abc"))
        await world.desk.until_begun(2)
        leaving.writer.close()
        gone.writer.transport.abort()
        await world.desk.until_ended(world.desk.letters[0])
        assert {letter.end for letter in world.desk.letters} == {"broke off", "complete"}
        await asyncio.sleep(0.05)
        for letter in world.desk.letters:
            if letter.end == "complete":
                letter.respond(Answer(200))
        staying.write(post("/echo", b"well"))
        assert (await staying.answer())[2] == b"well"


async def test_a_client_that_has_sent_all_may_close_its_side():
    async with serving() as world:
        client = await world.client()
        client.write(post("/wait", b"abc"))
        client.writer.write_eof()
        await world.desk.until_begun(1)
        await asyncio.sleep(0.05)
        world.desk.letters[0].respond(Answer(200, (), b"there"))
        assert (await client.answer())[2] == b"there"
        assert await client.rest() == b""


async def test_who_does_not_read_answers_is_read_no_more_and_cut():
    async with serving(body_seconds=0.5) as world:
        client = await world.client()
        client.writer.transport.pause_reading()
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(WITHIN_S):
                while True:
                    client.write(post("/echo", b"x" * 1_000_000))
                    await client.writer.drain()
        assert client.writer.is_closing()
        assert len(world.desk.letters) < 40


async def test_beyond_the_limit_of_connections_a_client_is_told_to_come_back():
    async with serving() as world:
        clients = [await world.client() for _ in range(MANY)]
        for client in clients:
            client.write(post("/echo", b"in"))
            assert (await client.answer())[2] == b"in"
        late = await world.client()
        status, headers, _ = await late.answer()
        assert (status, headers["retry-after"]) == (503, "1")
        clients[0].writer.close()
        await clients[0].writer.wait_closed()
        await asyncio.sleep(0.05)
        again = await world.client()
        again.write(post("/echo", b"in now"))
        assert (await again.answer())[2] == b"in now"


async def test_many_small_requests_in_one_read_are_begun_a_few_at_a_time():
    count = 5_000
    async with serving() as world:
        client = await world.client()
        client.write(b"GET /wait HTTP/1.1\r\n\r\n" * count)
        await world.desk.until_begun(1)
        await asyncio.sleep(0.1)
        answered = 0
        async with asyncio.timeout(WITHIN_S):
            while answered < count:
                begun = world.desk.letters[answered:]
                assert len(begun) <= 250
                for letter in begun:
                    letter.respond(Answer(200, (), b"%d" % answered))
                    answered += 1
                await asyncio.sleep(0)
        for number in range(count):
            assert (await client.answer())[2] == b"%d" % number


async def test_answers_that_nobody_reads_are_not_made():
    async with serving() as world:
        client = await world.client()
        client.writer.transport.pause_reading()
        client.write(b"GET /large HTTP/1.1\r\n\r\n" * 3_000)
        await world.desk.until_begun(1)
        await asyncio.sleep(0.3)
        assert len(world.desk.letters) < 400


async def test_who_was_closed_and_does_not_read_is_cut():
    async with serving(head_seconds=0.5, body_seconds=0.5) as world:
        clients = [await world.client() for _ in range(MANY)]
        for client in clients:
            client.writer.transport.pause_reading()
            client.writer.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096
            )
            client.write(b"GET /large HTTP/1.1\r\n\r\n" * 60)
        await world.desk.until_begun(MANY)
        await asyncio.sleep(3)
        late = await world.client()
        late.write(post("/echo", b"there is room"))
        assert (await late.answer())[2] == b"there is room"


async def test_what_follows_a_body_in_chunks_is_bounded():
    async with serving() as world:
        client = await world.client()
        client.write(b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nA: ")
        with suppress(ConnectionError):
            for _ in range(100):
                client.write(b"x" * 16_384)
                await client.writer.drain()
                await asyncio.sleep(0)
        assert (await client.answer())[0] == 431
        assert world.desk.letters[0].end == "broke off"


async def test_too_many_headers_are_refused_before_anything_is_done():
    async with serving() as world:
        client = await world.client()
        client.write(b"GET /at-once HTTP/1.1\r\n%b\r\n" % b"".join(b"A%d: b\r\n" % n for n in range(300)))
        assert (await client.answer())[0] == 431
        assert not world.desk.letters
        assert world.desk.refusals == [431]


async def test_rubbish_behind_the_last_answer_is_nobodys():
    async with serving() as world:
        for request in (b"GET /at-once HTTP/1.0\r\n\r\n", b"GET /at-once-and-no-more HTTP/1.1\r\n\r\n"):
            client = await world.client()
            client.write(request + b"rubbish\r\n\r\n" + request)
            assert (await client.answer())[2] == b"at once"
            assert await client.rest() == b""
        assert world.desk.refusals == []


async def test_who_is_told_no_before_a_body_that_waits_for_a_yes_is_let_go():
    async with serving() as world:
        client = await world.client()
        client.write(post("/at-once", b"unsent", "Expect: 100-continue").removesuffix(b"unsent"))
        _, headers, body = await client.answer()
        assert (headers["connection"], body) == ("close", b"at once")


async def test_chunks_of_the_old_protocol_are_the_last_of_their_connection():
    head = b"POST /echo HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serving() as world:
        client = await world.client()
        client.write(head + b"0\r\n\r\n")
        assert (await client.answer())[1]["connection"] == "close"


async def test_blanks_around_a_value_are_none_of_it():
    async with serving() as world:
        client = await world.client()
        client.write(b"GET /at-once HTTP/1.1\r\nX-Write-Key:  \t secret \t \r\n\r\n")
        await client.answer()
        assert world.desk.letters[0].request.headers["x-write-key"] == "secret"


async def test_a_fault_of_the_application_is_not_its_clients():
    async with serving() as world:
        client = await world.client()
        client.write(post("/bug", b""))
        status, headers, _ = await client.answer()
        assert (status, headers["retry-after"]) == (503, "1")


async def test_a_client_that_ends_in_the_middle_gets_the_answers_to_what_was_whole():
    async with serving() as world:
        client = await world.client()
        client.write(post("/wait", b"whole") + post("/echo", b"cut off")[:-1])
        await world.desk.until_begun(2)
        client.writer.write_eof()
        await world.desk.until_ended(world.desk.letters[1])
        world.desk.letters[0].respond(Answer(200, (), b"there"))
        assert (await client.answer())[2] == b"there"
        assert await client.rest() == b""


async def test_connections_that_are_gone_leave_no_cycles():
    async with serving() as world:
        gone = []
        server_side = Connection.connection_made

        def remember(connection: Connection, transport: asyncio.BaseTransport) -> None:
            gone.append(weakref.ref(connection))
            server_side(connection, transport)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Connection, "connection_made", remember)
            for request in (post("/echo", b"well"), post("/echo", b"cut off")[:-1]):
                client = await world.client()
                client.write(request)
                await world.desk.until_begun(len(gone))
                client.writer.close()
                await client.writer.wait_closed()
        await asyncio.sleep(0.1)
        world.desk.letters.clear()
        assert [each() for each in gone] == [None, None]
