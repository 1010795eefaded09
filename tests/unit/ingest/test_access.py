"""Keys, origins, limits, and what a request says of its sender."""

from typing import Any

import msgspec
import pytest

from ingest.access import Access, key_in
from ingest.domain.knowledge import Knowledge
from ingest.errors import Refusal
from ingest.http.message import Head, Request
from ingest.settings import load
from schemas.access_keys import AccessKey, KeyKind, KeyLimits, hash_key
from schemas.reasons import Scope
from tests.unit.ingest.given import BROWSER, NOW, key

SETTINGS = {
    "FLIGHTLINE_KAFKA": "k:1",
    "FLIGHTLINE_BIND": "127.0.0.1:8000",
    "FLIGHTLINE_STATE": "s",
    "FLIGHTLINE_TRUSTED_PROXIES": "10.0.0.0/8,fd00::/8",
}
SECRET = "a-key"


def access(**changes: Any) -> Access:
    """A door's access that knows one key."""
    knowledge = Knowledge()
    knowledge.keys.put(msgspec.structs.replace(key(), key_hash=hash_key(SECRET), **changes))
    return Access(load(SETTINGS), knowledge)


def refused(one: Access, sent: str | None = SECRET, origin: str | None = None, **flags: bool) -> int:
    """The status with which a key is refused; 0 when it is not."""
    try:
        one.require(sent, origin, NOW, **{"catching_up": False, **flags})
    except Refusal as refusal:
        return refusal.problem.status
    return 0


def test_a_known_key_may_send():
    assert refused(access()) == 0


@pytest.mark.parametrize("sent", [None, "", "another", "x" * 300, "ключ", "a-key "])
def test_an_unknown_key_is_refused(sent):
    assert refused(access(), sent) == 401


def test_an_unknown_key_is_not_called_unknown_before_all_keys_were_read():
    assert refused(access(), "another", catching_up=True) == 503
    assert refused(access(), None, catching_up=True) == 401


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"revoked": True}, 401),
        ({"expires_at": NOW}, 401),
        ({"expires_at": NOW + 1}, 0),
        ({"scopes": (Scope.COST,)}, 403),
        ({"scopes": ()}, 403),
    ],
)
def test_a_key_is_held_to_its_life_and_scopes(changes, status):
    assert refused(access(**changes)) == status


@pytest.mark.parametrize(
    ("allowed", "origin", "status"),
    [
        ((), "https://any.example", 0),
        (("https://a.example",), "https://a.example", 0),
        (("https://a.example",), None, 0),
        (("https://a.example",), "https://b.example", 403),
        (("https://a.example",), "null", 403),
        (("https://a.example",), "https://a.example.evil", 403),
        (("*",), "https://b.example", 0),
    ],
)
def test_a_key_is_held_to_its_origins(allowed, origin, status):
    assert refused(access(allowed_origins=allowed), origin=origin) == status


def test_a_limit_is_each_keys_own():
    one = access()
    limited = msgspec.structs.replace(key(), key_hash="limited", limits=KeyLimits(events_per_second=1))
    one.spend(limited, 1)
    with pytest.raises(Refusal) as over:
        one.spend(limited, 1)
    assert (over.value.problem.status, over.value.headers) == (429, [("retry-after", "1")])
    one.spend(key(), 1_000_000)
    raised = msgspec.structs.replace(limited, limits=KeyLimits(events_per_second=100))
    one.spend(raised, 100)


def test_a_key_that_is_deep_in_debt_is_refused_before_its_events_are_known():
    one = access()
    limited = msgspec.structs.replace(key(), limits=KeyLimits(events_per_second=1))
    one.require_allowance(limited)
    one.spend(limited, 1)
    one.require_allowance(limited)
    other = msgspec.structs.replace(limited, key_hash="in debt")
    one.spend(other, 500)
    with pytest.raises(Refusal) as refused:
        one.require_allowance(other)
    ((name, seconds),) = refused.value.headers
    assert name == "retry-after"
    assert 400 < int(seconds) <= 500


class Line(msgspec.Struct):
    """A connection of this client."""

    client: str

    def answered(self, request: Request) -> None:
        """Nobody answers here."""


def sender(sent_key: AccessKey | None = None, client: str = "192.0.2.1:555", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = Request(Line(client), Head("POST", "/v1/events", "", named))
    return access().sender(sent_key or key(), request)


@pytest.mark.parametrize(
    ("headers", "private"),
    [({"sec_gpc": "1"}, True), ({"dnt": "1"}, True), ({"dnt": "0"}, False), ({"sec_gpc": "?1"}, False)],
)
def test_who_asks_not_to_be_tracked_is_private(headers, private):
    assert sender(**headers).private is private


def test_a_browsers_agent_is_the_requests_and_bounded():
    assert sender(user_agent=BROWSER).user_agent == BROWSER
    assert len(sender(user_agent="x" * 9_000).user_agent) == 512
    assert not sender(key(kind=KeyKind.SERVER), user_agent=BROWSER).user_agent


@pytest.mark.parametrize(
    ("client", "country", "taken"),
    [
        ("10.1.2.3:555", "de", "DE"),
        ("[fd00::1]:555", "FR", "FR"),
        ("192.0.2.1:555", "DE", ""),
        ("10.1.2.3:555", "XX", ""),
        ("10.1.2.3:555", "T1", ""),
        ("10.1.2.3:555", "Germany", ""),
        ("unix", "DE", ""),
    ],
)
def test_a_country_is_taken_only_from_a_trusted_proxy(client, country, taken):
    assert sender(client=client, cf_ipcountry=country).country == taken


def test_the_header_goes_before_the_parameter():
    assert key_in({"x-write-key": "h"}, "key=q") == "h"
    assert key_in({}, "a=1&key=q%2Bz") == "q+z"
    assert key_in({}, "monkey=q") is None
