"""Bodies, parameters, cursors, tokens, settings, snapshots."""

from base64 import urlsafe_b64encode
from datetime import timedelta

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from control_api.auth.tokens import AUDIENCE, ISSUER, Claims, Tokens
from control_api.domain.snapshot import state_of
from control_api.domain.submission import Replacement, Submission
from control_api.errors import MalformedRequest, SettingsError, Unauthorized
from control_api.handlers.listing import contains_pattern, read_cursor, read_sort, write_cursor
from control_api.routes.list_parameters import ListParameters, list_query
from control_api.routes.reading import read_body, read_parameters
from control_api.settings import load
from schemas.campaign_state import Pricing
from schemas.reasons import CampaignStatus, PricingModel
from tests.unit.control_api.samples import NOW, ORGANIZATION_ID, USER_ID, a_campaign, eur

SECRET = "0123456789abcdef0123456789abcdef"
ENVIRONMENT = {
    "FLIGHTLINE_KAFKA": "127.0.0.1:9092",
    "FLIGHTLINE_POSTGRES": "postgresql://localhost/x",
    "FLIGHTLINE_BIND": "127.0.0.1:8080",
    "FLIGHTLINE_JWT_SECRET": SECRET,
}


def test_every_field_that_cannot_be_read_is_named():
    body = b'{"name": 1, "type": "X", "settings": {"channels": ["FAX", "WEB", "TV"], "maxImpressions": 0}}'
    _, errors = read_body(Submission, body)
    assert {error.pointer for error in errors} == {
        "/name",
        "/type",
        "/settings/channels/0",
        "/settings/channels/2",
        "/settings/maxImpressions",
    }


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b"{" * 100_000, b'{"nam": "x"}', b'{"settings": {"colour": 1}}', b'{"id": "x"}'],
)
def test_what_is_not_json_or_not_known_is_malformed(body):
    with pytest.raises(MalformedRequest):
        read_body(Submission, body)


@pytest.mark.parametrize(
    "body",
    [b'{"name": "a", "name": "b"}', b'{"budget": {"amount": 1, "amount": 1000, "currency": "EUR"}}'],
)
def test_a_field_given_twice_is_malformed(body):
    with pytest.raises(MalformedRequest, match="twice"):
        read_body(Submission, body)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "body",
    [
        b'{"targetingRules": [' + b"1," * 500_000 + b"1]}",
        b'{"settings": {"schedulingRules": [' + b"{}," * 300_000 + b"{}]}}",
    ],
    ids=["texts", "objects"],
)
def test_of_very_many_errors_the_first_are_named(body):
    _, errors = read_body(Submission, body)
    assert len(errors) == 100


def test_integers_of_thousands_of_digits_are_named_like_other_errors():
    _, errors = read_body(Submission, b'{"settings": {"maxImpressions": ' + b"9" * 6_000 + b"}}")
    assert [error.pointer for error in errors] == ["/settings/maxImpressions"]


@pytest.mark.parametrize("milliseconds", ["0", "-1", "1.5", "x", "600001"])
def test_a_time_for_bodies_that_makes_no_sense_stops_the_service(milliseconds):
    with pytest.raises(SettingsError, match="FLIGHTLINE_BODY_MS"):
        load(ENVIRONMENT | {"FLIGHTLINE_BODY_MS": milliseconds})


@pytest.mark.parametrize("milliseconds", ["-1", "1.5", "x", "30001"])
def test_a_time_to_be_drained_that_makes_no_sense_stops_the_service(milliseconds):
    with pytest.raises(SettingsError, match="FLIGHTLINE_DRAIN_MS"):
        load(ENVIRONMENT | {"FLIGHTLINE_DRAIN_MS": milliseconds})


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"x"'])
def test_a_body_that_is_no_object_has_no_value(body):
    value, errors = read_body(Submission, body)
    assert value is None
    assert errors


def test_nul_is_refused_wherever_it_stands():
    _, errors = read_body(Submission, b'{"name": "a\\u0000b", "targetingRules": ["x", "\\u0000"]}')
    assert {error.pointer for error in errors} == {"/name", "/targetingRules/1"}


def test_what_only_the_service_writes_is_ignored_in_a_replacement():
    value, errors = read_body(Replacement, b'{"id": 1, "status": [], "metrics": {"x": 1}, "name": "n"}')
    assert not errors
    assert value is not None
    assert value.name == "n"


def test_parameters_repeat_only_where_they_are_alternatives():
    parameters = read_parameters(ListParameters, [("status", "DRAFT"), ("status", "ACTIVE"), ("limit", "7")])
    assert parameters.status == (CampaignStatus.DRAFT, CampaignStatus.ACTIVE)
    assert parameters.limit == 7
    plus = read_parameters(ListParameters, [("endsAfter", "2026-01-01T00:00:00 02:00")])
    assert plus.ends_after is not None
    assert plus.ends_after.utcoffset() == timedelta(hours=2)
    for wrong in (
        [("limit", "1"), ("limit", "2")],
        [("limit", "0")],
        [("limit", "1001")],
        [("colour", "red")],
        [("status", "RUNNING")],
        [("endsAfter", "yesterday")],
        [("q", "\0")],
    ):
        with pytest.raises(MalformedRequest):
            read_parameters(ListParameters, wrong)


def test_a_cursor_leads_back_to_its_position_and_only_in_its_own_order():
    cursor = write_cursor("-name", "früh", USER_ID)
    assert read_cursor(cursor, "-name") == ("früh", USER_ID)
    for wrong, sort in ((cursor, "name"), ("%%%", "-name"), ("bm9wZQ", "-name"), ("ü", "-name")):
        with pytest.raises(MalformedRequest):
            read_cursor(wrong, sort)


def test_a_search_finds_its_text_and_not_a_pattern():
    assert contains_pattern("50%_\\") == "%50\\%\\_\\\\%"


def test_sort_is_one_of_a_closed_set():
    assert read_sort("-createdAt") == ("createdAt", True)
    with pytest.raises(MalformedRequest):
        read_sort("id; DROP TABLE")
    assert list_query(ListParameters(), ORGANIZATION_ID).descending


def claims(**changes):
    payload = {
        "sub": USER_ID,
        "org": ORGANIZATION_ID,
        "roles": ["admin"],
        "iss": ISSUER,
        "aud": AUDIENCE,
        "exp": int(NOW.timestamp()) + 60,
    }
    return {name: value for name, value in (payload | changes).items() if value is not None}


def sign(payload, secret=SECRET, algorithm="HS256"):
    return jwt.encode({"alg": algorithm}, payload, OctKey.import_key(secret), algorithms=[algorithm])


def test_a_token_that_was_minted_is_verified():
    tokens = Tokens(SECRET)
    minted = tokens.mint(Claims(USER_ID, ORGANIZATION_ID, ("admin",)), now=NOW, lifetime=timedelta(hours=1))
    until = (NOW + timedelta(hours=1)).timestamp()
    assert tokens.verify(minted, NOW) == Claims(USER_ID, ORGANIZATION_ID, ("admin",), exp=until)
    with pytest.raises(Unauthorized):
        tokens.verify(minted, NOW + timedelta(hours=2))


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x.y.z",
        sign(claims(), secret="another-secret-of-the-same-length!!"),
        sign(claims(), algorithm="HS512", secret=SECRET * 2),
        "eyJhbGciOiJub25lIn0.e30.",
        f"{urlsafe_b64encode(b'[' * 6_000).decode()}.e30.e30",
        *(sign(claims(**{name: None})) for name in ("sub", "org", "iss", "aud", "exp")),
        *(sign(claims(**{name: "other"})) for name in ("sub", "org", "iss", "aud", "roles")),
        sign(claims(exp=int(NOW.timestamp()) - 60)),
    ],
)
def test_every_other_token_is_refused(token):
    with pytest.raises(Unauthorized):
        Tokens(SECRET).verify(token, NOW)


def test_settings_are_read_from_the_environment():
    settings = load(ENVIRONMENT)
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_a_missing_setting_is_named(name):
    with pytest.raises(SettingsError, match=name):
        load({key: value for key, value in ENVIRONMENT.items() if key != name})


@pytest.mark.parametrize("bind", ["8080", "host:", "host:x", "host:70000", ":80"])
def test_an_address_that_cannot_be_listened_on_is_named(bind):
    with pytest.raises(SettingsError, match="FLIGHTLINE_BIND"):
        load(ENVIRONMENT | {"FLIGHTLINE_BIND": bind})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FLIGHTLINE_KAFKA", "k"),
        ("FLIGHTLINE_POSTGRES", "nowhere"),
        ("FLIGHTLINE_CLICKHOUSE", "nowhere"),
        ("FLIGHTLINE_INGEST_URL", "nowhere"),
    ],
)
def test_an_address_that_is_none_is_named(name, value):
    with pytest.raises(SettingsError, match=f"^{name} must "):
        load(ENVIRONMENT | {name: value})


def test_the_snapshot_says_what_a_door_needs():
    state = state_of(a_campaign(version=7))
    assert (state.version, state.budget, state.currency) == (7, 100_000_000, "EUR")
    assert state.pricing == Pricing(PricingModel.CPM, 2_500_000)
    assert state.ends_at is not None
    assert state.ends_at - state.starts_at == 31 * 86_400_000
    limited = a_campaign(settings=a_campaign().settings.__class__(budget_limit=eur("80.00")))
    assert state_of(limited).budget == 80_000_000
