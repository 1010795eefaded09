"""A seeded mutator: bytes that are nearly right, as the interesting ones are."""

import random
from collections.abc import Sequence

TOKENS = (
    b"",
    b"\x00",
    b"\\u0000",
    b"\\ud800",
    b"\\udfff\\ud800",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"1e400",
    b"-0.0",
    b"NaN",
    b"-Infinity",
    b"9" * 400,
    b"0." + b"3" * 400,
    b"[" * 3_000,
    b'{"a":' * 700,
    b'"',
    b"\\",
    b"\n",
    b"\r\n",
    b",",
    b":",
    b"{}",
    b"[]",
    b"null",
    b"true",
    b"9223372036854775808",
    b"-1",
    b"18446744073709551616",
    b"0001-01-01T00:00:00Z",
    b"9999-12-31T23:59:59.999999-23:59",
    b"2024-02-30T25:61:61Z",
    b"x" * 513,
    "\u2028\U0001f600\u0301".encode(),
    b"A" * 17_000,
)


class Mutator:
    """Changes contents at a few random places; everything follows from the dice."""

    def __init__(self, dice: random.Random, corpus: Sequence[bytes]) -> None:
        self._dice = dice
        self._corpus = corpus

    def pick(self) -> bytes:
        """A content that is well."""
        return self._dice.choice(self._corpus)

    def mutated(self, content: bytes, most: int = 4) -> bytes:
        """The content with one to `most` changes."""
        for _ in range(self._dice.randint(1, most)):
            content = self._changed(content)
        return content

    def _changed(self, content: bytes) -> bytes:
        dice = self._dice
        begin = dice.randint(0, len(content))
        end = min(len(content), begin + dice.choice((0, 0, 1, 1, 2, 8, 64)))
        match dice.randrange(6):
            case 0:
                return content[:begin] + dice.choice(TOKENS) + content[end:]
            case 1:
                return content[:begin] + dice.randbytes(dice.randint(1, 4)) + content[end:]
            case 2:
                return content[:begin] + content[end:]
            case 3:
                return content[:end] + content[begin:end] * dice.randint(1, 3) + content[end:]
            case 4:
                other = self.pick()
                return content[:begin] + other[dice.randint(0, len(other)) :]
            case _:
                return self._flipped(content)

    def _flipped(self, content: bytes) -> bytes:
        if not content:
            return content
        at = self._dice.randrange(len(content))
        return content[:at] + bytes([content[at] ^ (1 << self._dice.randrange(8))]) + content[at + 1 :]
