"""Reading a request's body: never more than the limit, whatever it claims or unpacks to."""

import zlib
from collections.abc import Callable
from functools import lru_cache

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

_COUNTED_AT_ONCE = 64 * 1024
"""A body that claims to have up to so many bytes counts with all of them from its head on."""

_MAX_MEMBERS = 16
"""Of a gzip or zstd body: thousands of empty ones would cost seconds."""


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


class Body:
    """A body as it comes in. Refuses one that is larger than the limit without reading on.

    `take` is told of its bytes before they are kept, and may refuse. A large body counts as it comes in: who
    only claims to send much takes no room from others.
    """

    __slots__ = ("_is_counted", "_received", "_take")

    def __init__(self, content_length: str | None, take: Callable[[int], None]) -> None:
        self._take = take
        self._received: bytes | bytearray = b""
        self._is_counted = False
        if content_length is not None and content_length.isdecimal():
            length = int(content_length.lstrip("0")[:20] or 0)
            if length > MAX_BODY_BYTES:
                raise too_large()
            if length <= _COUNTED_AT_ONCE:
                take(length)
                self._is_counted = True

    def add(self, piece: bytes) -> None:
        """The next bytes. Raises Refusal."""
        if not self._is_counted:
            self._take(len(piece))
        if not self._received:
            self._received = piece  # all of it, as a rule
        else:
            if not isinstance(self._received, bytearray):
                self._received = bytearray(self._received)
            self._received += piece
        if len(self._received) > MAX_BODY_BYTES:
            raise too_large()

    @property
    def received(self) -> bytes:
        """What has come."""
        return bytes(self._received)


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
