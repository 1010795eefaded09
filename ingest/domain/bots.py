"""Judging user agents: crawlers and headless browsers are bots, people's mail proxies and apps are not."""

import re
from functools import lru_cache

from ingest.domain.crawlers import is_crawler

MAX_JUDGED = 256
"""Characters looked at: a crawler says so early, and they cost 1 µs each at worst (crawlers.py)."""

# What stands for a person although crawlerdetect lists it: proxies that fetch a mail's images for its reader,
# and the HTTP libraries that apps and servers report events with.
_PEOPLE = re.compile(
    r"\(?via ggpht\.com GoogleImageProxy\)?|GoogleImageProxy|YahooMailProxy(?:; https?://\S+)?"
    r"|\b(?:okhttp|CFNetwork|Dart|Alamofire|axios|node-fetch|undici|got|curl|libcurl|Wget|HTTPie|aiohttp"
    r"|python-requests|python-httpx|python-urllib3?|urllib3|Python|Go-http-client|Apache-HttpClient"
    r"|Apache-HttpAsyncClient|Jakarta Commons-HttpClient|Google-HTTP-Java-Client|ReactorNetty|GuzzleHttp"
    r"|Faraday|Symfony HttpClient|Ruby|Java|libwww-perl|PostmanRuntime|Ktor client)"
    r"(?:/[\w.\-]+| v[\d.]*)?(?![\w])"
    r"|\(dart:io\)|\(\+?https://github\.com/(?:sindresorhus/got|bitinn/node-fetch|node-fetch/node-fetch)\)",
    re.IGNORECASE,
)
_WITHOUT_PEOPLE = re.compile(r"headless|phantomjs|puppeteer|playwright|selenium|cypress", re.IGNORECASE)


@lru_cache(maxsize=20_000)
def is_bot(user_agent: str) -> bool:
    """Whether the user agent is a machine's. An empty one is not: apps and servers often send none."""
    if not user_agent:
        return False
    judged = user_agent[:MAX_JUDGED]
    if _WITHOUT_PEOPLE.search(judged):
        return True
    rest = _PEOPLE.sub("", judged).strip()
    return bool(rest) and is_crawler(rest)
