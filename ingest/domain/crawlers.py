"""The list of crawlers of `crawlerdetect`, asked so that no user agent holds the door up.

The library tries 1,462 patterns at each character of a user agent: 50 to 90 ms for 256 characters on a busy
machine, and a request may have 1,000 different ones. But nearly every pattern has a text in it that must be
there (`^Amazon-Route53-`, `imgproxy\\/[0-9]`), and whether a text is there is known in no time. So a pattern
is tried only where its text is: 0.3 ms at worst. The answers are the library's, which the tests compare.
"""

import re
from functools import cache

from crawlerdetect.providers import crawlers, exclusions

_SHORTEST = 3
_TOKEN = re.compile(r"\\(?P<escaped>[^\w\s])|\\.|\[[^\]]*\]|(?P<sign>[\^$.*+?{}()|])|(?P<plain>.)", re.DOTALL)
_LEADING_SET = re.compile(r"\A\[[^\]]*\]\*")
_EXCLUDED = re.compile("|".join(exclusions.data), re.IGNORECASE)
_ALIKE = str.maketrans({"\u0130": "i", "\u0131": "i", "\u017f": "s", "\u212a": "k"})
"""Letters beyond ASCII that `re.IGNORECASE` takes for those of ASCII."""


def needed_text(pattern: str) -> str:
    """The longest text, in small letters, that whatever the pattern matches must hold, cases aside; empty
    when that can't be told."""
    texts = [""]
    for token in _TOKEN.finditer(pattern):
        sign = token["sign"]
        if sign is not None and sign in "(|{":
            return ""
        character = token["escaped"] or token["plain"]
        if character:
            texts[-1] += character
        else:
            if sign is not None and sign in "*?":
                texts[-1] = texts[-1][:-1]
            texts.append("")
    longest = max(texts, key=len)
    return longest.lower() if longest.isascii() and len(longest) >= _SHORTEST else ""


_TRIED_ALWAYS = [pattern for pattern in crawlers.data if not needed_text(pattern)]
# A search for `[a-z]*(bot|crawl)` finds something where one for `(bot|crawl)` does, but takes far longer.
_OTHERS = re.compile("|".join(_LEADING_SET.sub("", pattern) for pattern in _TRIED_ALWAYS), re.IGNORECASE)


def _by_beginning() -> dict[str, list[tuple[str, str]]]:
    """First letters of a needed text → texts that begin with them, each with its pattern."""
    found: dict[str, list[tuple[str, str]]] = {}
    for pattern in crawlers.data:
        if text := needed_text(pattern):
            found.setdefault(text[:_SHORTEST], []).append((text, pattern))
    return found


_NEEDED = _by_beginning()


def is_crawler(user_agent: str) -> bool:
    """Whether the list has it, once what browsers say as well is taken out."""
    rest = _EXCLUDED.sub("", user_agent.strip())
    if not rest:
        return False
    if _OTHERS.search(rest):
        return True
    small = rest.translate(_ALIKE).lower()
    beginnings = {small[at : at + _SHORTEST] for at in range(len(small) - _SHORTEST + 1)}
    return any(
        text in small and _compiled(pattern).search(rest)
        for beginning in beginnings & _NEEDED.keys()
        for text, pattern in _NEEDED[beginning]
    )


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)
