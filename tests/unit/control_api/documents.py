"""Campaigns as clients send them, with every setting and with texts that are meant to break something."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from control_api.domain.campaign import CampaignType, Day, Frequency
from control_api.domain.texts import check_text, composed, unseen_in
from schemas.reasons import Channel

HOSTILE = [
    "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "'=1", "''=1", "'", "''", "'x", "\uff1d1",
    "a;=1+1", "a;'=1", "a\t+1", ";;-1", ";\t=1", "Sale;=1+cmd|' /C calc'!A0",
    "=cmd|' /C calc'!A0", "a;b", ";", " a ", "[", "[1]", '["a"]', "{}", '"', '""', ",", "a,b\r\nc", "\r",
    "<script>alert(1)</script>", "'; DROP TABLE control.campaigns; --", "\u202egnp.exe", "\u0430\u0435",
    "null", "true", "0", "1e5", "\\u0000", "\ufeff", "\u2028", "🤹🏽", "e\u0301", "%s%n", "${x}", "../../x",
]  # fmt: skip
START = datetime(2031, 6, 1, 8, 30, tzinfo=UTC)

_anything = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
texts = st.sampled_from(HOSTILE) | _anything
short_texts = texts.filter(bool)
ids = short_texts.filter(lambda text: not list(check_text(text, "")))
names = texts.map(composed).filter(lambda text: bool(text) and unseen_in(text) is None)
descriptions = texts.filter(lambda text: unseen_in(text, lines=True) is None)
hosts = st.from_regex(r"[a-z0-9]{1,8}(\.[a-z0-9]{1,8}){1,2}", fullmatch=True)
prices = st.integers(0, 10**7).map(lambda thousandths: thousandths / 1000)


def money(currency: str, decimals: int) -> st.SearchStrategy[dict[str, Any]]:
    amounts = st.integers(1, 10**8).map(lambda units: f"{units / 10**decimals:.{decimals}f}")
    return st.builds(lambda amount: {"amount": amount, "currency": currency}, amounts)


@st.composite
def settings(draw: st.DrawFn, currency: str, decimals: int) -> dict[str, Any]:
    """All of them that WIRE.md names."""
    names = draw(st.lists(ids, min_size=2, max_size=4, unique=True))
    rules = st.fixed_dictionaries(
        {
            "days": st.lists(st.sampled_from(list(Day)), min_size=1, max_size=7),
            "from": st.just("09:00"),
            "to": st.sampled_from(["18:00", "24:00"]),
            "timeZone": st.sampled_from(["UTC", "Europe/Berlin", "Asia/Tokyo"]),
        }
    )
    model = draw(st.sampled_from(["CPM", "CPC", "CPA", "FLAT"]))
    return {
        "targetAudience": draw(st.lists(ids, max_size=4)),
        "channels": draw(st.lists(st.sampled_from(list(Channel)), min_size=1, unique=True)),
        "frequency": draw(st.sampled_from(list(Frequency))),
        "maxImpressions": draw(st.integers(1, 10**15)),
        "budgetLimit": draw(money(currency, decimals)),
        "pricing": {"model": model, "price": {"amount": draw(prices), "currency": currency}},
        "attribution": {
            "clickHours": draw(st.integers(0, 24)),
            "conversionDays": draw(st.integers(0, 365)),
        },
        "frequencyCap": {"impressions": draw(st.integers(1, 99)), "perHours": draw(st.integers(1, 99))},
        "landingHosts": draw(st.lists(hosts, max_size=3)),
        "abTestSettings": {
            "variants": [{"name": name, "weight": draw(st.integers(1, 99))} for name in names],
            "primaryMetric": draw(short_texts),
            "minimumSample": draw(st.integers(1, 10**6)),
            "confidence": draw(st.floats(0.01, 0.99)),
        },
        "schedulingRules": draw(st.lists(rules, max_size=3)),
        "personalization": {"enabled": draw(st.booleans()), "rules": draw(st.lists(ids, max_size=3))},
    }


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """A body of POST /campaigns that is valid."""
    currency, decimals = draw(st.sampled_from([("EUR", 2), ("JPY", 0), ("KWD", 3)]))
    start = START + timedelta(milliseconds=draw(st.integers(0, 10**10)))
    end = start + timedelta(milliseconds=draw(st.integers(1, 10**10)))
    return {
        "name": draw(names),
        "description": draw(descriptions),
        "type": draw(st.sampled_from(list(CampaignType))),
        "targetingRules": draw(st.lists(ids, min_size=1, max_size=4, unique=True)),
        "startDate": start.isoformat(),
        "endDate": draw(st.sampled_from([None, end.isoformat()])),
        "budget": draw(st.none() | money(currency, decimals)),
        "settings": draw(settings(currency, decimals)),
    }
