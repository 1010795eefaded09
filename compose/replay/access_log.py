"""Lines of an Apache or nginx access log in the combined format. Pure."""

import re
from datetime import datetime
from hashlib import blake2b

from compose.replay.errors import BadRow

_LINE = re.compile(
    r'(?P<host>\S+) \S+ \S+ \[(?P<time>[^\]]+)\] "(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) '
    r'(?P<bytes>\d+|-) "(?P<referrer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)"(?: .*)?'
)
_TIME = "%d/%b/%Y:%H:%M:%S %z"
_VISITOR_BYTES = 16

COLUMNS = {
    "url": "path",
    "referrer": "referrer",
    "userAgent": "userAgent",
    "visitorId": "visitor",
    "occurredAt": "time",
}
"""The fields of an event that a line gives, and the columns they are read from."""


def looks_like(line: str) -> bool:
    """Whether a line is one of such a log."""
    return _LINE.fullmatch(line) is not None


def parse_line(line: str, salt: bytes) -> dict[str, str]:
    """The columns of a line: method, path, status, bytes, referrer, userAgent, time (RFC 3339), visitor.

    The address is in none of them: `visitor` is a hash of address and user agent, keyed with `salt` (up to 64
    bytes; the same salt gives the same visitors). BadRow when the line is not of the format.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        raise BadRow("not a line of a combined access log")
    try:
        time = datetime.strptime(match["time"], _TIME)  # noqa: DTZ007  %z stands in _TIME
    except ValueError:
        raise BadRow(f"not a time: {match['time']!r}") from None
    method, _, rest = match["request"].partition(" ")
    agent = _absent_as_empty(match["agent"])
    return {
        "method": method,
        "path": rest.rpartition(" ")[0] or rest,
        "status": match["status"],
        "bytes": _absent_as_empty(match["bytes"]),
        "referrer": _absent_as_empty(match["referrer"]),
        "userAgent": agent,
        "time": time.isoformat(),
        "visitor": _visitor(match["host"], agent, salt),
    }


def _absent_as_empty(text: str) -> str:
    return "" if text == "-" else text


def _visitor(host: str, agent: str, salt: bytes) -> str:
    return blake2b(f"{host}\n{agent}".encode(), digest_size=_VISITOR_BYTES, key=salt).hexdigest()
