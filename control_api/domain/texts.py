"""Texts that people read: what cannot be seen in them is refused, for it makes two names look like one."""

from collections.abc import Iterator
from unicodedata import category, normalize

from control_api.domain.refusals import FieldError

_UNSEEN = frozenset({"Cc", "Cf", "Zl", "Zp"})
"""Controls, marks of direction and of no width, separators of lines and paragraphs."""
_JOINERS = frozenset("\u200c\u200d")
"""Between two characters they belong to how some scripts and many emoji are written."""
_OF_LINES = frozenset("\t\n\r")


def composed(text: str) -> str:
    """The text as it is kept: without space around it, and each character written in one way (NFC)."""
    return normalize("NFC", text.strip())


def check_text(text: str, pointer: str) -> Iterator[FieldError]:
    """What is wrong with a name, or an id that people choose: it must be there to be seen, all of it."""
    if not text.strip():
        yield FieldError(pointer, "must not be empty")
    elif unseen := unseen_in(text):
        yield FieldError(pointer, unseen)


def unseen_in(text: str, *, lines: bool = False) -> str | None:
    """What is wrong with a text that holds characters nobody sees, or None. `lines`: it may have several."""
    for index, character in enumerate(text):
        if category(character) not in _UNSEEN or (lines and character in _OF_LINES):
            continue
        if character in _JOINERS and 0 < index < len(text) - 1:
            continue
        return f"must not contain U+{ord(character):04X}, which cannot be seen"
    return None
