"""HTTP requests that are nearly right: framing, headers, compression, encodings, bodies."""

import gzip
import random
import zlib

import zstandard

from schemas.ids import new_id
from tests.faults.fuzz.mutate import Mutator

_METHODS = (
    b"POST",
    b"POST",
    b"POST",
    b"GET",
    b"OPTIONS",
    b"HEAD",
    b"PUT",
    b"DELETE",
    b"TRACE",
    b"PRI",
    b"post",
    b"",
)
_TARGETS = (
    b"/v1/events",
    b"/v1/events",
    b"/v1/events?key=%00",
    b"/v1/pixel.gif?key=KEY&campaignId=CAMPAIGN&type=CLICK",
    b"/v1/pixel.gif?" + b"a=1&" * 100,
    b"/v1/serve?campaigns=CAMPAIGN",
    b"/v1/serve?campaigns=" + b"x," * 2_000,
    b"/v1/rejections",
    b"/problems/bad-key",
    b"/metrics",
    b"//v1/events",
    b"/v1/events/../serve",
    b"http://door/v1/events",
    b"*",
    b"/%ff%fe",
    b"/" + b"a" * 9_000,
    b"",
)
_VERSIONS = (b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"")
_EXTRA = (
    b"Expect: 100-continue",
    b"Connection: close",
    b"Connection: upgrade\r\nUpgrade: websocket",
    b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\nConnection: Upgrade, HTTP2-Settings",
    b"Origin: https://shop.example",
    b"Origin: \xff\xfe",
    b"Prefer: return=minimal",
    b"If-None-Match: *",
    b"DNT: 1",
    b"Sec-GPC: 1",
    b"User-Agent: \xe9\x00",
    b"User-Agent: " + b"a" * 5_000,
    b"X-Write-Key: other",
    b"X-Write-Key: \xc3\xa9",
    b'Content-Type: text/plain; charset="utf-8',
    b"Content-Type: application/json; charset=utf-16",
    b"Content-Type: multipart/form-data; boundary=",
    b"Content-Type: application/x-ndjson",
    b"Content-Type: \xff",
    b"Content-Length: 0",
    b"Content-Length: 18446744073709551616",
    b"Content-Length: -1",
    b"Content-Length: 5, 5",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: identity",
    b"Trailer: X-Write-Key",
    b" folded: header",
    b"no colon",
    b": no name",
    b"A\x00B: c",
    b"X: " + b"y" * 70_000,
    b"\r\n".join(b"H%d: v" % n for n in range(150)),
)
_ENCODINGS = (b"gzip", b"deflate", b"zstd", b"br", b"gzip, gzip", b"identity", b"\xff")


class Requests:
    """Makes requests from a corpus of bodies."""

    def __init__(self, dice: random.Random, bodies: list[bytes], key: str, campaign_id: str) -> None:
        self._dice = dice
        self._mutator = Mutator(dice, bodies)
        self._key = key.encode()
        self._campaign = campaign_id.encode()

    def good(self) -> tuple[str, bytes]:
        """A request that there is nothing wrong with, and its event's id."""
        event_id = new_id()
        body = b'{"eventId":"%b","campaignId":"%b","type":"CLICK"}' % (event_id.encode(), self._campaign)
        head = b"POST /v1/events HTTP/1.1\r\nHost: door\r\nX-Write-Key: %b\r\nContent-Length: %d\r\n\r\n"
        return event_id, head % (self._key, len(body)) + body

    def make(self) -> bytes:
        """One request, wrong in one way or another, or in none."""
        dice = self._dice
        body = self._mutator.pick()
        if dice.random() < 0.7:
            body = self._mutator.mutated(body)
        headers = [b"Host: door", b"X-Write-Key: " + self._key]
        if dice.random() < 0.3:
            body = self._packed(body, headers)
        method = dice.choice(_METHODS) if dice.random() < 0.3 else b"POST"
        target = dice.choice(_TARGETS) if dice.random() < 0.4 else b"/v1/events"
        version = dice.choice(_VERSIONS) if dice.random() < 0.1 else b"HTTP/1.1"
        body = self._framed(body, headers)
        if dice.random() < 0.4:
            headers += dice.sample(_EXTRA, dice.randint(1, 2))
        dice.shuffle(headers)
        head = b"\r\n".join([b" ".join([method, self._filled(target), version]), *headers])
        request = head + b"\r\n\r\n" + body
        return self._mutator.mutated(request, 2) if dice.random() < 0.15 else request

    def _filled(self, target: bytes) -> bytes:
        return target.replace(b"KEY", self._key).replace(b"CAMPAIGN", self._campaign)

    def _packed(self, body: bytes, headers: list[bytes]) -> bytes:
        encoding = self._dice.choice(_ENCODINGS)
        headers.append(b"Content-Encoding: " + encoding)
        if encoding == b"gzip":
            body = gzip.compress(body, 1)
        elif encoding == b"deflate":
            body = zlib.compress(body, 1)
        elif encoding == b"zstd":
            body = zstandard.compress(body)
        return self._mutator.mutated(body, 2) if self._dice.random() < 0.5 else body

    def _framed(self, body: bytes, headers: list[bytes]) -> bytes:
        dice = self._dice
        if dice.random() < 0.75:
            length = len(body) if dice.random() < 0.85 else max(0, len(body) + dice.randint(-20, 20))
            headers.append(b"Content-Length: %d" % length)
            return body
        headers.append(b"Transfer-Encoding: chunked")
        at = dice.randint(0, len(body))
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:at], body[at:]) if part)
        framed = chunks + dice.choice((b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"", b"-1\r\n"))
        return self._mutator.mutated(framed, 1) if dice.random() < 0.3 else framed
