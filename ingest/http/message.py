"""What the server and its application say to each other."""

import time
from collections.abc import Mapping, Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Protocol

import msgspec

Headers = Sequence[tuple[str, str]]

CLOSE = ("connection", "close")
_NO_HEADERS: Mapping[str, str] = {}


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A response. A header `connection: close` ends the connection after it."""

    status: int
    headers: Headers = ()
    body: bytes = b""


def plain(status: HTTPStatus, sentence: str, *headers: tuple[str, str]) -> Answer:
    """An answer to a client that is dismissed."""
    content_type = ("content-type", "text/plain; charset=utf-8")
    return Answer(status, [content_type, *headers, CLOSE], f"{sentence}\n".encode())


class Line(Protocol):
    """The connection that a request came on."""

    @property
    def client(self) -> str:
        """Who has its other end, `host:port`."""

    def answered(self, request: "Request") -> None:
        """The request has its answer."""


class Head:
    """What the head of a request says. `headers` by lower-case name: the first value of each.

    `is_old`: HTTP/1.0, which closes a connection unless it says otherwise. `keeps`: its client wants the
    connection to stay. `expects`: it waits with the body until it is told to go on.
    """

    __slots__ = ("expects", "headers", "is_old", "keeps", "method", "path", "query_string")

    def __init__(
        self,
        method: str = "",
        path: str = "",
        query_string: str = "",
        headers: Mapping[str, str] = _NO_HEADERS,
        *,
        is_old: bool = False,
        keeps: bool = True,
    ) -> None:
        self.method = method
        self.path = path
        self.query_string = query_string
        self.headers = headers
        self.is_old = is_old
        # A proxy of that age may see another end of a body in chunks.
        self.keeps = keeps and not (is_old and "transfer-encoding" in headers)
        self.expects = not is_old and headers.get("expect", "").lower() == "100-continue"


class Request:
    """A request, and the way to answer it."""

    __slots__ = ("_is_old", "_line", "answer", "headers", "keeps", "method", "path", "query_string")

    def __init__(self, line: Line, head: Head, *, keeps: bool = True) -> None:
        self.method = head.method
        self.path = head.path
        self.query_string = head.query_string
        self.headers = head.headers
        self.keeps = keeps
        """Whether the connection stays open after it."""
        self.answer: bytes | None = None
        """As it goes to the client, once there is one."""
        self._line = line
        self._is_old = head.is_old

    @property
    def client(self) -> str:
        """Who sent it, `host:port`; looked up when it is asked for."""
        return self._line.client

    def respond(self, answer: Answer) -> None:
        """Answers it, once: at any time, in any order, also when its client has gone."""
        if CLOSE in answer.headers:
            self.keeps = False
        connection = "close" if not self.keeps else "keep-alive" if self._is_old else ""
        self.answer = rendered(answer, int(time.time()), connection, with_body=self.method != "HEAD")
        self._line.answered(self)


class Reading(Protocol):
    """A request whose body is being read. Nothing of it is called after it has been answered."""

    def take(self, piece: bytes) -> None:
        """The next bytes of the body."""

    def complete(self) -> None:
        """The body has ended."""

    def too_slow(self) -> None:
        """The body did not come in time; the request is to be answered now."""

    def broke_off(self) -> None:
        """The client has gone in the middle of the body."""


class Application(Protocol):
    """What answers requests. None of its methods raises."""

    def begin(self, request: Request) -> Reading | None:
        """A request's head was read. None when its body is of no interest, or when it was answered."""

    def refused(self, status: int) -> None:
        """A client was answered that had sent no request that could be understood."""


def rendered(answer: Answer, second: int, connection: str = "", *, with_body: bool = True) -> bytes:
    """The bytes of a response sent at `second` (epoch). `connection` is that header's value, if it needs one.

    `with_body` is False for HEAD, whose answer says how long the body would have been.
    """
    head = _head(answer.status, tuple(answer.headers), connection)
    if answer.status in _WITHOUT_BODY:
        return b"%b%b\r\n" % (head, _date(second))
    body = answer.body
    return b"%b%bcontent-length: %d\r\n\r\n%b" % (head, _date(second), len(body), body if with_body else b"")


_WITHOUT_BODY = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


@lru_cache(maxsize=1_024)
def _head(status: int, headers: tuple[tuple[str, str], ...], connection: str) -> bytes:
    """Rendered once: nearly all answers are alike."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers if name != CLOSE[0]]
    if connection:
        lines.append(f"{CLOSE[0]}: {connection}")
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


@lru_cache(maxsize=2)
def _date(second: int) -> bytes:
    return f"date: {formatdate(second, usegmt=True)}\r\n".encode()
