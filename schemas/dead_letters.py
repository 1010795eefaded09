"""`dead-letters`: what could not be decoded, with its coordinates and the reason."""

import msgspec

TOPIC = "dead-letters"


class DeadLetter(msgspec.Struct, frozen=True, rename="camel"):
    """A record or a line of it that is not a tracking event. `value` is its bytes (base64 in JSON),
    of a long one the first 256 KiB;
    `index` is the line, -1 for the record as a whole. `at` is the record's time in epoch ms."""

    topic: str
    incarnation: int
    partition: int
    offset: int
    index: int
    reason: str
    at: int
    value: bytes
