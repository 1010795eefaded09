"""A file that is sent, in pieces: decompressed, checked to be text in UTF-8, and never whole in memory."""

import asyncio
import codecs
import hashlib
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import NoReturn

from litestar.exceptions import InternalServerException

from control_api.domain.job import MAX_FILE_BYTES
from control_api.domain.refusals import FieldError
from control_api.errors import InvalidRequest, MalformedRequest, TooLarge, TooSlow, UnsupportedMediaType
from control_api.routes.request import ApiRequest

PIECE_BYTES = 256 << 10
_GZIP = 16 + zlib.MAX_WBITS
_LARGEST = f"a file has at most {MAX_FILE_BYTES >> 20} MiB"


class Upload:
    """The body of a request as a file. `digest` covers what has been sent, as it was sent."""

    def __init__(self, request: ApiRequest) -> None:
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity", "gzip"):
            raise UnsupportedMediaType(f"send the file as it is or as gzip, not as {encoding[:40]!r}")
        if int(request.headers.get("content-length") or 0) > MAX_FILE_BYTES:
            raise TooLarge(_LARGEST)
        self._request = request
        self._seconds: float = request.app.state.body_seconds
        self._gunzip = _Gunzip() if encoding == "gzip" else None
        self._text = _Utf8()
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> bytes:
        """SHA-256."""
        return self._hash.digest()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The file in pieces of 256 KiB.

        Raises TooLarge, TooSlow when nothing comes for a while, MalformedRequest when it breaks off or is no
        gzip, InvalidRequest when it is not UTF-8.
        """
        held = bytearray()
        async for part in self._parts():
            self.size += len(part)
            if self.size > MAX_FILE_BYTES:
                raise TooLarge(f"{_LARGEST}, decompressed")
            self._text.check(part)
            held += part
            while len(held) >= PIECE_BYTES:
                yield bytes(held[:PIECE_BYTES])
                del held[:PIECE_BYTES]
        self._text.end()
        if held:
            yield bytes(held)

    async def _parts(self) -> AsyncIterator[bytes]:
        sent = 0
        async for chunk in self._chunks():
            sent += len(chunk)
            if sent > MAX_FILE_BYTES:
                raise TooLarge(_LARGEST)
            self._hash.update(chunk)
            if self._gunzip is None:
                yield chunk
            else:
                for part in self._gunzip.parts(chunk):
                    yield part
        if self._gunzip is not None:
            self._gunzip.end()

    async def _chunks(self) -> AsyncIterator[bytes]:
        stream = self._request.stream()
        while True:
            try:
                async with asyncio.timeout(self._seconds):
                    chunk = await anext(stream, None)
            except TimeoutError:
                raise TooSlow(f"nothing was sent for {self._seconds:g} seconds") from None
            except InternalServerException:  # what Litestar makes of a client that disconnects
                raise MalformedRequest("the body broke off") from None
            if chunk is None:
                return
            if chunk:
                yield chunk


class _Gunzip:
    """Decompresses piece by piece: a small body that would become a huge one is stopped on its way."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)

    def parts(self, chunk: bytes) -> Iterator[bytes]:
        """What `chunk` adds. Raises MalformedRequest."""
        rest = chunk
        while rest:
            if self._member.eof:  # a file may have several members, one after the other
                self._member = zlib.decompressobj(_GZIP)
            try:
                yield self._member.decompress(rest, PIECE_BYTES)
            except zlib.error:
                raise MalformedRequest("the body is not gzip that can be read") from None
            rest = self._member.unconsumed_tail or self._member.unused_data

    def end(self) -> None:
        """Raises MalformedRequest when something is missing."""
        if not self._member.eof:
            raise MalformedRequest("the body is gzip that breaks off")


class _Utf8:
    """Knows whether what has come until now is text, and in which line it is not."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._line = 1

    def check(self, part: bytes) -> None:
        """Raises InvalidRequest that names the line."""
        self._decode(part, final=False)
        if (at := part.find(0)) >= 0:
            self._refuse(part[:at], "has a NUL")
        self._line += part.count(b"\n")

    def end(self) -> None:
        """Raises InvalidRequest for a last character that is not complete."""
        self._decode(b"", final=True)

    def _decode(self, part: bytes, *, final: bool) -> None:
        try:
            self._decoder.decode(part, final)
        except UnicodeDecodeError as error:
            # What the decoder still held of the part before has no line end in it.
            self._refuse(error.object[: error.start], "is not UTF-8")

    def _refuse(self, before: bytes, sentence: str) -> NoReturn:
        line = self._line + before.count(b"\n")
        raise InvalidRequest([FieldError("", f"line {line} {sentence}: send the file as UTF-8")])
