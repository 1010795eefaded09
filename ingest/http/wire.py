"""From bytes to requests: llhttp, kept within limits, and with an answer ready for what is no HTTP/1.1."""

from functools import lru_cache
from http import HTTPStatus
from typing import Protocol

import httptools
import structlog

from ingest.http.message import Answer, Head, plain

log = structlog.get_logger(__name__)

MAX_HEAD_BYTES = 64 * 1024
"""Of a request's head: 1,000 campaigns of `/v1/serve` take 40 KB."""
_MAX_HEADERS = 256
_LONGEST_CACHED_NAME = 64
_OLD, _VERSIONS = "1.0", frozenset({"1.0", "1.1"})

_BAD_REQUEST = plain(HTTPStatus.BAD_REQUEST, "this is not HTTP/1.1")
_HEAD_TOO_LARGE = plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too large")
_FAILED = plain(HTTPStatus.SERVICE_UNAVAILABLE, "the door failed: send it again", ("retry-after", "1"))


class Refused(Exception):
    """Nothing that follows can be understood; the client gets this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


class Receiver(Protocol):
    """Who is told of what was parsed."""

    def message_begun(self) -> None:
        """The first byte of a request has come."""

    def head_read(self, head: Head) -> None:
        """Its head is whole."""

    def body_read(self, piece: bytes) -> None:
        """The next bytes of its body."""

    def message_ended(self) -> None:
        """All of it has come."""


class Wire:
    """Parses one connection. `in_body`: between the head and the end of a request."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self.in_message = False
        self.in_body = False
        self._head_bytes = 0
        self._url = b""
        self._sent: dict[bytes, bytes] = {}
        self._framing = b""
        self._is_offer = False
        self._resumes = False
        # What the parser calls for each header: no function of ours, for a third of the whole parsing.
        self.on_header = self._sent.setdefault
        self._parser = httptools.HttpRequestParser(self)

    def feed(self, piece: memoryview) -> int:
        """Parses some bytes; returns how many of them. Raises Refused."""
        self._head_bytes += len(piece)
        try:
            taken = self._feed(piece)
        except httptools.HttpParserError as error:
            raise Refused(_answer_to(error)) from error
        if self._head_bytes > MAX_HEAD_BYTES:  # or as much behind a body, which nobody reads
            raise Refused(_HEAD_TOO_LARGE)
        return taken

    def close(self) -> None:
        """Nothing is parsed any more. They hold each other, and cycles are seldom looked for."""
        del self._parser, self._receiver

    def _feed(self, piece: memoryview) -> int:
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay_with_http1()
            return int(upgrade.args[0])
        return len(piece)

    def _stay_with_http1(self) -> None:
        """A client that offers HTTP/2 with its first request takes an answer in HTTP/1.1 as well.

        The parser ends after the head of an offer. The next one is told how its body is framed.
        """
        self._parser = httptools.HttpRequestParser(self)
        self._resumes = True
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % self._framing)
        self._resumes = self._is_offer = False

    # What the parser calls, beside `on_header`.

    def on_message_begin(self) -> None:
        if self._resumes:
            return
        self.in_message = True
        self._url = b""
        self._sent.clear()
        self._receiver.message_begun()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_headers_complete(self) -> None:
        if self._resumes:
            return
        parser = self._parser
        version = parser.get_http_version()
        if version not in _VERSIONS:
            raise Refused(_BAD_REQUEST)
        if len(self._sent) > _MAX_HEADERS:
            raise Refused(_HEAD_TOO_LARGE)
        self.in_body = True
        self._head_bytes = 0
        headers: dict[str, str] = {}
        for name, value in self._sent.items():
            headers.setdefault(_lower(name), value.decode("latin-1").rstrip(" \t"))
        if parser.should_upgrade():
            self._is_offer = True
            self._framing = _framing_of(headers)
        self._receiver.head_read(
            Head(
                parser.get_method().decode(),
                *_target(self._url),
                headers,
                is_old=version == _OLD,
                keeps=parser.should_keep_alive(),
            )
        )

    def on_body(self, piece: bytes) -> None:
        self._head_bytes = 0
        self._receiver.body_read(piece)

    def on_message_complete(self) -> None:
        if self._is_offer and not self._resumes:
            return
        self.in_message = self.in_body = False
        self._sent.clear()
        self._receiver.message_ended()


def _framing_of(headers: dict[str, str]) -> bytes:
    names = ("content-length", "transfer-encoding")
    return "".join(f"{name}: {headers[name]}\r\n" for name in names if name in headers).encode("latin-1")


def _answer_to(error: httptools.HttpParserError) -> Answer:
    if not isinstance(error, httptools.HttpParserCallbackError):
        return _BAD_REQUEST
    cause = error.__context__
    if isinstance(cause, Refused):
        return cause.answer
    log.error("wire.failed", exc_info=cause)
    return _FAILED


def _lower(name: bytes) -> str:
    return _known(name) if len(name) <= _LONGEST_CACHED_NAME else name.decode("latin-1").lower()


@lru_cache(maxsize=256)
def _known(name: bytes) -> str:
    return name.decode("latin-1").lower()


def _target(url: bytes) -> tuple[str, str]:
    """Path and query of a request's target, which a proxy may have sent with scheme and host."""
    if not url.startswith(b"/") and b"://" in url[:16]:
        _, _, rest = url.partition(b"://")
        url = b"/" + rest.partition(b"/")[2]
    path, _, query = url.partition(b"#")[0].partition(b"?")
    return path.decode("latin-1"), query.decode("latin-1")
