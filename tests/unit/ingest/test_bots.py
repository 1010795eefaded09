"""Which user agents are machines."""

import pytest

from ingest.domain.bots import is_bot
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
