"""Which user agents are machines."""

import random
import re
import time

import pytest
from crawlerdetect import CrawlerDetect
from crawlerdetect.providers import crawlers, exclusions

from ingest.domain.bots import MAX_JUDGED, is_bot
from ingest.domain.crawlers import is_crawler, needed_text
from tests.unit.ingest.given import BROWSER


@pytest.mark.parametrize(
    "user_agent",
    [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "facebookexternalhit/1.1",
        BROWSER.replace("Chrome", "HeadlessChrome"),
        "Mozilla/5.0 (Unknown; Linux) PhantomJS/2.1.1",
        "Mozilla/5.0 Chrome-Lighthouse",
        "python-requests/2.31.0 AhrefsBot/7.0",
        "Mozilla/5.0 (compatible; bingbot/2.0)",
    ],
)
def test_crawlers_and_headless_browsers_are_bots(user_agent):
    assert is_bot(user_agent)


@pytest.mark.parametrize(
    "user_agent",
    [
        "",
        BROWSER,
        "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
        "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
        "okhttp/4.9.3",
        "MyApp/1.0 CFNetwork/1410.0.3 Darwin/22.6.0",
        "Dart/3.1 (dart:io)",
        "python-requests/2.31.0",
        "Python/3.11 aiohttp/3.14.5",
        "python-httpx/0.27.0",
        "Python-urllib/3.11",
        "Go-http-client/1.1",
        "axios/1.6.0",
        "node-fetch/1.0 (+https://github.com/bitinn/node-fetch)",
        "Apache-HttpClient/4.5.13 (Java/1.8.0_302)",
        "Java/17.0.1",
        "curl/8.0.1",
        "GuzzleHttp/7",
        "Dalvik/2.1.0 (Linux; U; Android 13; Pixel 7)",
    ],
)
def test_people_their_mail_proxies_and_the_http_libraries_of_apps_are_not(user_agent):
    assert not is_bot(user_agent)


AN_EXAMPLE = {
    r"^Ruby|Ruby\/[0-9]": "ruby/3",
    r"Daum(oa)?[ \/][0-9]": "Daum/4",
    r"HAA(A)?RTLAND http client": "HAAARTLAND http client",
    r"Sitemap(s)? Generator": "Sitemap Generator",
    r"xpymep([0-9]?)\.exe": "xpymep1.exe",
    r"Yandex(?!Search)": "Yandex",
}


def example_of(pattern: str) -> str:
    """A text that the pattern matches; patterns that need none longer than themselves, without signs."""
    if pattern in AN_EXAMPLE:
        return AN_EXAMPLE[pattern]
    text = re.sub(r"\[0-9\\?\.?\][+]?|\[\\d\\\.\]\*", "7", pattern.strip("^$"))
    text = text.replace("[at]", "a").replace("[A-Z]", "J").replace(".*", "").replace(" ?", " ")
    return re.sub(r"\\(.)", r"\1", text)


@pytest.mark.parametrize("change", [str, str.upper, str.lower], ids=["as it is", "large", "small"])
def test_what_the_list_of_crawlers_has_is_one(change):
    detector = CrawlerDetect()
    for pattern in crawlers.data:
        example = change(example_of(pattern))
        if detector.is_crawler(example):
            assert is_crawler(example), pattern


def test_the_list_is_asked_as_its_library_asks_it():
    detector = CrawlerDetect()
    random_ = random.Random(7)  # noqa: S311  the same texts each time, no secrets
    pieces = [example_of(pattern) for pattern in crawlers.data]
    pieces += [re.sub(r"\\(.)|[\[\]*?()]", r"\1", each) for each in exclusions.data]
    found = 0
    for _ in range(400):
        text = random_.choice(pieces) + random_.choice(["", " ", "/1.0 (", "\u0130"]) + random_.choice(pieces)
        at = random_.randrange(len(text))
        text = text[:at] + random_.choice(["", "x", "7", " ", "\u017f", "\u212a", "\u0131"]) + text[at + 1 :]
        found += detector.is_crawler(text)
        assert is_crawler(text) == detector.is_crawler(text), text
    assert 100 < found < 400


def test_letters_that_a_pattern_takes_for_others_are_known_as_such():
    assert is_crawler("Amazon\u2011Route53") is False
    assert is_crawler("Amazon Simple Not\u0131f\u0130cat\u0131on \u017fervice Agent")
    assert is_crawler("\u212aeycdn") is CrawlerDetect().is_crawler("\u212aeycdn")


def test_the_text_that_a_pattern_needs():
    assert needed_text(r"^Amazon-Route53-Health") == "amazon-route53-health"
    assert needed_text(r"Go [\d\.]* package http") == " package http"
    assert needed_text(r"Project ?25499") == "project"
    assert needed_text(r"PTST\/[0-9]+") == "ptst/"
    assert needed_text(r"Java.*outbrain") == "outbrain"
    for undecided in (r"^Ruby|Ruby\/[0-9]", r"Daum(oa)?[ \/]", r"ab", r"a{0}bcd"):
        assert needed_text(undecided) == ""
    assert sum(not needed_text(pattern) for pattern in crawlers.data) < 20


def test_a_request_full_of_strange_user_agents_does_not_hold_the_door_up():
    pieces = ["x", "P", "bo", "spide", "CPU OS _", "python ", "NG/", "Java", "a.1", "Go 1", "like "]
    strange = [(f"{n}" + pieces[n % len(pieces)] * MAX_JUDGED)[:MAX_JUDGED] for n in range(100)]
    started = time.process_time()
    for user_agent in strange:
        is_bot(user_agent)
    assert time.process_time() - started < 0.5
