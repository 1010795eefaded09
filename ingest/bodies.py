"""Reading a request's body: never more than the limit, whatever it claims or unpacks to."""

import zlib
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from typing import Protocol

import zstandard

from ingest.domain.decode import Framing
from ingest.domain.incoming import MAX_BODY_BYTES
from ingest.errors import Refusal
from schemas.door_problems import MALFORMED_BODY, TOO_LARGE, UNSUPPORTED_MEDIA_TYPE

_GZIP_BITS = 31
_ZLIB_BITS = 15
_RAW_BITS = -15
_ZSTD_WINDOW = 8 * 1024 * 1024
_ZSTD_STEP = 64
"""Bytes unpacked at a time: a block of zstd takes 4 and unpacks to 128 KiB, so a step makes 2 MiB at most."""


_WHOLE_BYTES = 64 * 1024
"""A body up to this is read in one step, which is cheaper than in pieces."""

_MAX_MEMBERS = 16
"""Of a gzip or zstd body: thousands of empty ones would cost seconds."""


class Body(Protocol):
    """A request's body as Granian gives it: whole, or in pieces."""

    async def __call__(self) -> bytes: ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...


class _Undecodable(ValueError):
    pass


def too_large() -> Refusal:
    """The request is larger than the limit."""
    return Refusal(TOO_LARGE, f"a request has at most {MAX_BODY_BYTES} bytes, unpacked as well")


@lru_cache(maxsize=256)
def framing_of(content_type: str | None) -> Framing:
    """How the body's events are set apart. No content type at all is treated as text/plain."""
    if not content_type:
        return Framing.TEXT
    media_type, _, parameters = content_type.partition(";")
    charset = parameters.partition("charset=")[2].partition(";")[0].strip(" \"'").lower()
    try:
        framing = Framing(media_type.strip().lower())
    except ValueError:
        raise Refusal(UNSUPPORTED_MEDIA_TYPE, f"send {', '.join(Framing)}, not {media_type[:80]!r}") from None
    if charset not in {"", "utf-8", "utf8", "us-ascii"}:
        raise Refusal(UNSUPPORTED_MEDIA_TYPE, f"send UTF-8, not {charset[:40]!r}")
    return framing


async def read(body: Body, content_length: str | None, take: Callable[[int], None]) -> bytes:
    """The body as sent. Refuses one that is larger than the limit without reading on.

    `take` is told of its bytes before there is memory for them, and may refuse. A large body counts as it
    comes in: who only claims to send much takes no room from others.
    """
    if content_length is not None and content_length.isdecimal():
        length = int(content_length[:20])
        if length > MAX_BODY_BYTES:
            raise too_large()
        if length <= _WHOLE_BYTES:
            take(length)
            return await body()
    received = bytearray()
    async for piece in body:
        take(len(piece))
        received += piece
        if len(received) > MAX_BODY_BYTES:
            raise too_large()
    return bytes(received)


def unpack(content: bytes, encoding: str | None) -> bytes:
    """The content without its Content-Encoding; stops unpacking at the limit."""
    name = (encoding or "identity").strip().lower()
    if name == "identity":
        return content
    decoder = _DECODERS.get(name)
    if decoder is None:
        raise Refusal(UNSUPPORTED_MEDIA_TYPE, f"Content-Encoding is gzip, deflate or zstd, not {name[:40]!r}")
    try:
        return decoder(content)
    except (zlib.error, zstandard.ZstdError, _Undecodable) as error:
        raise Refusal(MALFORMED_BODY, f"the body is not {name}: {error}") from None


def _gzip(content: bytes) -> bytes:
    """All members of a gzip file, which may be several."""
    unpacked = b""
    for _ in range(_MAX_MEMBERS):
        if not content:
            return unpacked
        member = zlib.decompressobj(_GZIP_BITS)
        unpacked += _inflate(member, content, MAX_BODY_BYTES - len(unpacked))
        content = member.unused_data
    raise _Undecodable(f"it has more than {_MAX_MEMBERS} members")


def _deflate(content: bytes) -> bytes:
    """zlib as the standard says, or bare deflate as some clients send."""
    decoder = zlib.decompressobj(_ZLIB_BITS)
    try:
        unpacked = _inflate(decoder, content, MAX_BODY_BYTES)
    except zlib.error:
        decoder = zlib.decompressobj(_RAW_BITS)
        unpacked = _inflate(decoder, content, MAX_BODY_BYTES)
    if decoder.unused_data:
        raise _Undecodable("something follows it")
    return unpacked


def _inflate(decoder: "zlib._Decompress", content: bytes, limit: int) -> bytes:
    unpacked = decoder.decompress(content, limit + 1)
    if len(unpacked) > limit:
        raise too_large()
    if not decoder.eof:
        raise _Undecodable("it ends too early")
    return unpacked


def _zstd(content: bytes) -> bytes:
    """All frames of a zstd file. The library has no limit of its own on what a piece unpacks to."""
    unpacked = bytearray()
    frame, frames = None, 0
    view = memoryview(content)
    while view:
        if frame is None:
            frames += 1
            if frames > _MAX_MEMBERS:
                raise _Undecodable(f"it has more than {_MAX_MEMBERS} frames")
            frame = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
        step, view = view[:_ZSTD_STEP], view[_ZSTD_STEP:]
        unpacked += frame.decompress(step)
        if len(unpacked) > MAX_BODY_BYTES:
            raise too_large()
        if frame.eof:
            view = memoryview(frame.unused_data + bytes(view))
            frame = None
    if frame is not None:
        raise _Undecodable("it ends too early")
    return bytes(unpacked)


_DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "zstd": _zstd,
}
