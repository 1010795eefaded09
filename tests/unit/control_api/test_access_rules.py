"""Addresses, passwords, permissions, what is remembered of users, settings of who may what."""

import asyncio
import threading
import time
from ipaddress import ip_network

import pytest

from control_api.auth.address import address_hash, client_of
from control_api.auth.counters import Counters
from control_api.auth.passwords import Argon2Passwords
from control_api.auth.rates import Rates, is_rate
from control_api.auth.standing import Remembered, Standing, Standings
from control_api.domain.permissions import OF_ROLE, Permission, Role, of_roles
from control_api.domain.users import beyond, check_password
from control_api.errors import SettingsError, Unavailable
from control_api.settings import load
from tests.unit.control_api.samples import NOW, ORGANIZATION_ID, USER_ID
from tests.unit.control_api.test_edges import ENVIRONMENT, SECRET

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.1", [], "203.0.113.1"),
        ("203.0.113.1", ["198.51.100.1"], "203.0.113.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.2.3.4, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.2.3.4", "198.51.100.1, 10.9.9.9"], "198.51.100.1"),
        ("fd00::1", ["2001:db8::7"], "2001:db8::7"),
        ("10.0.0.1", ["198.51.100.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.2"], "10.0.0.2"),
        (None, ["198.51.100.1"], None),
    ],
)
def test_a_client_is_whom_the_nearest_proxies_of_ours_have_heard_from(peer, forwarded, client):
    assert client_of(peer, forwarded, PROXIES) == client


def test_an_address_is_kept_as_a_keyed_hash_of_its_site():
    assert address_hash(SECRET, None) is None
    one = address_hash(SECRET, "2001:db8:0:1::1")
    assert one == address_hash(SECRET, "2001:db8:0:1:ffff::2")
    assert one != address_hash(SECRET, "2001:db8:0:2::1")
    assert address_hash(SECRET, "::ffff:192.0.2.1") == address_hash(SECRET, "192.0.2.1")
    assert address_hash(SECRET, "192.0.2.1") != address_hash(SECRET[::-1], "192.0.2.1")


@pytest.mark.parametrize("password", ["short", "aaaaaaaaaaaaaaaaaa", "abababababababab", "Ann@Shop.Example"])
def test_a_password_that_is_easily_guessed_is_refused(password):
    assert list(check_password(password, "ann@shop.example", "/password"))


def test_a_long_password_needs_no_kinds_of_characters():
    assert not list(check_password("correct horse battery", "ann@shop.example", "/password"))


def test_roles_beyond_what_somebody_may_are_named():
    editor = of_roles([Role.EDITOR])
    assert beyond(editor, [Role.VIEWER]) == frozenset()
    assert Permission.USERS_MANAGE in beyond(editor, [Role.ADMIN])
    assert Permission.APPROVALS_DECIDE in beyond(editor, [Role.APPROVER])
    assert of_roles(["owner", "Admin", ""]) == frozenset()


def test_an_admin_may_everything_and_a_viewer_changes_nothing():
    assert OF_ROLE[Role.ADMIN] == frozenset(Permission)
    assert {permission.value.rpartition(":")[2] for permission in OF_ROLE[Role.VIEWER]} == {"read"}
    assert Permission.APPROVALS_DECIDE not in OF_ROLE[Role.EDITOR]
    assert Permission.CAMPAIGNS_WRITE not in OF_ROLE[Role.APPROVER]


async def test_passwords_are_hashed_with_a_salt_and_told_apart():
    passwords = Argon2Passwords()
    one, two = await passwords.hash("correct horse"), await passwords.hash("correct horse")
    assert one != two
    assert one.startswith("$argon2id$")
    assert await passwords.verify(one, "correct horse")
    assert not await passwords.verify(one, "correct Horse")
    assert not await passwords.verify(None, "correct horse")
    assert not await passwords.verify("not a hash", "correct horse")
    assert not passwords.is_outdated(one)
    assert passwords.is_outdated(one.replace("m=47104", "m=1024"))


async def test_too_many_passwords_at_once_are_refused_and_the_others_are_checked():
    passwords = Argon2Passwords()
    kept = await passwords.hash("correct horse")
    answers = await asyncio.gather(
        *(passwords.verify(kept, "correct horse") for _ in range(150)), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, Unavailable)]
    assert len(refused) == 50
    assert [answer for answer in answers if answer is True] == [True] * 100


class Register:
    """Counts who is asked for; `standings` can be changed, `away` makes it fail."""

    def __init__(self) -> None:
        self.asked = 0
        self.away = False
        self.standing_now = Standing(is_user=True, active=True, roles=("viewer",))

    async def standing(self, *_):
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("away")
        return self.standing_now

    async def key_standing(self, _):
        self.asked += 1


async def test_a_user_is_asked_for_once_at_a_time_and_again_when_it_changed():
    register = Register()
    standings = Standings(register, seconds=3600)

    async def look():
        return await standings.of_user(ORGANIZATION_ID, USER_ID, None, NOW)

    await asyncio.gather(*(look() for _ in range(20)))
    assert register.asked == 1
    register.standing_now = None
    assert (await look()) is not None
    standings.user_changed(USER_ID)
    assert (await look()) is None
    assert register.asked == 2


async def test_what_could_not_be_asked_is_not_remembered():
    register = Register()
    register.away = True
    standings = Standings(register, seconds=3600)
    with pytest.raises(Unavailable):
        await standings.of_user(ORGANIZATION_ID, USER_ID, None, NOW)
    register.away = False
    assert await standings.of_user(ORGANIZATION_ID, USER_ID, None, NOW)


async def test_keys_that_are_guessed_take_no_place():
    standings = Standings(Register(), seconds=3600)
    assert await standings.of_key("guess") is None
    assert not standings.knows_key("guess")


async def test_what_is_remembered_grows_old_and_has_a_bound():
    async def ask():
        return 1

    old: Remembered[int, int] = Remembered(-1.0)
    bounded: Remembered[int, int] = Remembered(3600, most=3)
    for key in range(10):
        await bounded.get(key, ask)
        await old.get(key, ask)
    assert [key for key in range(10) if key in bounded] == [7, 8, 9]
    asked = []

    async def ask_again():
        asked.append(1)
        return 2

    assert await old.get(1, ask_again) == 2
    assert await bounded.get(9, ask_again) == 1
    assert len(asked) == 1


def test_a_rate_is_counted_for_each_by_itself():
    rates = Rates(user="2/minute", key="1/hour", address="1/day")
    assert [rates.take("user", "ann")[1] for _ in range(3)] == [True, True, False]
    assert rates.take("user", "bea")[1]
    taken, within = rates.take("key", "ann")
    assert (within, taken.remaining) == (True, 0)
    assert taken.headers[0] == (b"ratelimit-policy", b'"key";q=1;w=3600')
    refused = rates.refuse(taken)
    assert 0 < refused.retry_after <= 7200


def test_rates_start_no_threads_and_forget_who_is_gone(monkeypatch):
    now = [1_000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    before, counters = threading.active_count(), Counters()
    for number in range(50):
        assert counters.incr(f"k{number}", 30) == 1
    assert counters.incr("k1", 30) == 2
    assert threading.active_count() == before
    now[0] += 10_000
    assert counters.incr("late", 30) == 1
    counters.sweep()
    assert set(counters.expirations) == {"late"}
    assert counters.get("k1") == 0


@pytest.mark.parametrize(
    ("text", "good"), [("5/minute", True), ("0/minute", False), ("5", False), ("x", False)]
)
def test_a_rate_is_a_number_and_a_time(text, good):
    assert is_rate(text) is good


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FLIGHTLINE_RATE_USER", "many"),
        ("FLIGHTLINE_RATE_KEY", "0/minute"),
        ("FLIGHTLINE_LOGIN_PER_ACCOUNT", "0"),
        ("FLIGHTLINE_LOGIN_PER_ADDRESS", "-1"),
        ("FLIGHTLINE_CORS_ORIGINS", "*"),
        ("FLIGHTLINE_CORS_ORIGINS", "https://console.example/path"),
        ("FLIGHTLINE_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("FLIGHTLINE_TRUSTED_PROXIES", "proxy"),
    ],
)
def test_a_setting_of_who_may_what_that_makes_no_sense_is_named(name, value):
    with pytest.raises(SettingsError, match=name):
        load(ENVIRONMENT | {name: value})


def test_an_outside_issuer_needs_all_three_settings_and_is_not_this_service():
    outside = {
        "FLIGHTLINE_OIDC_ISSUER": "https://login.example/",
        "FLIGHTLINE_OIDC_AUDIENCE": "flightline",
        "FLIGHTLINE_OIDC_JWKS_URL": "https://login.example/keys",
    }
    settings = load(ENVIRONMENT | outside)
    assert settings.outside is not None
    assert (settings.outside.org_claim, settings.outside.roles_claim) == ("org", "roles")
    for name in outside:
        with pytest.raises(SettingsError, match=name):
            load(ENVIRONMENT | outside | {name: ""})
    for wrong in (
        {"FLIGHTLINE_OIDC_ISSUER": "flightline"},
        {"FLIGHTLINE_OIDC_JWKS_URL": "file:///etc/passwd"},
    ):
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            load(ENVIRONMENT | outside | wrong)
    assert load(ENVIRONMENT).outside is None
