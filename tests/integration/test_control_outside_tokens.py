"""Tokens of an outside issuer, whose keys are read over HTTP."""

import base64
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import pytest_asyncio

from control_api.auth.issuer_keys import IssuerKeys
from control_api.auth.outside import Outside, OutsideTokens
from control_api.errors import Unauthorized
from schemas.ids import new_id
from tests.integration.access import make_user
from tests.integration.control import ControlApi, body, eventually, running_control_api
from tests.integration.issuer import AUDIENCE, Issuer, ec, forged, hmac_with_public_key, okp, rsa

pytestmark = pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")

RSA, EC, OKP = rsa("rsa-1"), ec("ec-1"), okp("okp-1")
ORGANIZATION = "01900000-0000-7000-8000-00000000000a"


class World(NamedTuple):
    api: ControlApi
    issuer: Issuer

    def claims(self, **changes: Any) -> dict[str, Any]:
        return self.issuer.claims(self.api.made.organization_id, **changes)

    async def status(self, token: str, path: str = "/auth/me") -> int:
        return (await self.api.call("GET", path, token=token)).status


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(
    kafka: str, postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    folder = Path(tmp_path_factory.mktemp("control_outside"))
    async with Issuer(RSA, EC, OKP, rsa("short", 1024), ec("p384", "P-384")) as issuer:
        settings = {
            "FLIGHTLINE_OIDC_ISSUER": issuer.name,
            "FLIGHTLINE_OIDC_AUDIENCE": AUDIENCE,
            "FLIGHTLINE_OIDC_JWKS_URL": issuer.url,
            "FLIGHTLINE_OIDC_ROLES_CLAIM": "realm_access.roles",
        }
        async with running_control_api(kafka, postgres_dsn, folder, **settings) as api:
            yield World(api, issuer)


def roles(*names: str) -> dict[str, Any]:
    return {"roles": None, "realm_access": {"roles": list(names)}}


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(RSA, "RS256"), (EC, "ES256"), (OKP, "EdDSA"), (OKP, "Ed25519")],
    ids=["RS256", "ES256", "EdDSA", "Ed25519"],
)
async def test_a_token_of_the_issuer_is_as_good_as_ours(world: World, key: Any, algorithm: str) -> None:
    token = world.issuer.token(key, algorithm, world.claims(**roles("editor", "unknown")))
    me = await world.api.call("GET", "/auth/me", token=token)
    assert me.status == 200, me
    assert me.body["organizationId"] == world.api.made.organization_id
    made = await world.api.call("POST", "/campaigns", body(), token=token)
    assert (made.status, made.body["createdBy"]) == (201, me.body["id"])
    assert await world.status(token, "/users") == 403
    assert await world.status(world.api.made.admin_token) == 200


async def test_a_subject_is_always_the_same_user(world: World) -> None:
    async def identity(**changes: Any) -> str:
        token = world.issuer.token(RSA, "RS256", world.claims(**changes))
        return str((await world.api.call("GET", "/auth/me", token=token)).body["id"])

    own = new_id()
    assert await identity(sub="a|b") == await identity(sub="a|b") != await identity(sub="a|c")
    assert await identity(sub=own) == own
    user = await make_user(world.api, "viewer")
    assert await identity(sub=user["id"]) == user["id"]
    assert (await world.api.call("DELETE", f"/users/{user['id']}")).status == 204
    gone = world.issuer.token(RSA, "RS256", world.claims(sub=user["id"], **roles("admin")))
    assert await world.status(gone) == 401


async def test_a_key_of_somebody_without_an_account_here_ends_by_itself(world: World) -> None:
    token = world.issuer.token(RSA, "RS256", world.claims(**roles("admin")))
    asked = {"name": "k", "kind": "control", "scopes": ["campaigns:read"]}
    refused = await world.api.call("POST", "/api-keys", asked, token=token)
    assert refused.status == 422, refused
    assert [error["pointer"] for error in refused.body["errors"]] == ["/expiresAt"]
    ends = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    assert (await world.api.call("POST", "/api-keys", asked | {"expiresAt": ends}, token=token)).status == 201


def bad_tokens(issuer: Issuer, claims: dict[str, Any]) -> dict[str, str]:
    def changed(**changes: Any) -> dict[str, Any]:
        return {name: value for name, value in (claims | changes).items() if value is not None}

    now = int(time.time())
    good = {"alg": "RS256", "kid": RSA.kid, "typ": "JWT"}
    imposter = rsa("rsa-1")
    public = imposter.as_dict(private=False)
    signed = issuer.token(RSA, "RS256", claims)
    head, payload, signature = signed.split(".")
    return {
        "none": forged({"alg": "none", "kid": RSA.kid}, claims),
        "none without kid": forged({"alg": "none"}, claims),
        "None": forged({"alg": "nOnE", "kid": RSA.kid}, claims),
        "HS256 with the public key": hmac_with_public_key(RSA, claims),
        "no kid": issuer.token(RSA, "RS256", claims, kid=None),
        "kid of another key": issuer.token(RSA, "RS256", claims, kid=EC.kid),
        "unknown kid": issuer.token(RSA, "RS256", claims, kid="nobody's"),
        "kid that is a path": issuer.token(RSA, "RS256", claims, kid="../../dev/null"),
        "another key of that name": issuer.token(imposter, "RS256", claims),
        "embedded jwk": issuer.token(imposter, "RS256", claims, jwk=public),
        "x5u": issuer.token(RSA, "RS256", claims, x5u="http://127.0.0.1:1/x"),
        "jku": issuer.token(RSA, "RS256", claims, jku="http://127.0.0.1:1/x"),
        "x5c": issuer.token(RSA, "RS256", claims, x5c=["AAAA"]),
        "crit": forged(good | {"crit": ["exp"]}, claims, b"x" * 256),
        "b64": forged(good | {"b64": False, "crit": ["b64"]}, claims, b"x" * 256),
        "typ": issuer.token(RSA, "RS256", claims, typ="logout+jwt"),
        "typ of a proof": issuer.token(RSA, "RS256", claims, typ="dpop+jwt"),
        "RS512": issuer.token(RSA, "RS512", claims),
        "PS256": issuer.token(RSA, "PS256", claims),
        "a curve that is not asked for": issuer.token(ec("p384", "P-384"), "ES384", claims),
        "a short key": issuer.token(issuer.keys[3], "RS256", claims),
        "issuer": issuer.token(RSA, "RS256", changed(iss="https://elsewhere.example/")),
        "issuer of ours": issuer.token(RSA, "RS256", changed(iss="flightline")),
        "audience": issuer.token(RSA, "RS256", changed(aud="another service")),
        "no audience": issuer.token(RSA, "RS256", changed(aud=None)),
        "expired": issuer.token(RSA, "RS256", changed(exp=now - 60)),
        "no expiry": issuer.token(RSA, "RS256", changed(exp=None)),
        "expiry that is a text": issuer.token(RSA, "RS256", changed(exp="tomorrow")),
        "not yet": issuer.token(RSA, "RS256", changed(nbf=now + 600)),
        "no subject": issuer.token(RSA, "RS256", changed(sub=None)),
        "no organization": issuer.token(RSA, "RS256", changed(org=None)),
        "organization that is no id": issuer.token(RSA, "RS256", changed(org="shop")),
        "unknown organization": issuer.token(RSA, "RS256", changed(org=new_id())),
        "organizations": issuer.token(RSA, "RS256", changed(org=[claims["org"]])),
        "changed payload": f"{head}.{payload[:-2]}AA.{signature}",
        "no signature": f"{head}.{payload}.",
        "two parts": f"{head}.{payload}",
        "six parts": f"{signed}.{signed}",
        "too long": signed + "A" * 10_000,
        "nested": forged(good, {"iss": [[[[]]]]}),
    }


BAD = sorted(bad_tokens(Issuer(RSA, EC, OKP, rsa("short", 1024)), Issuer(RSA).claims(ORGANIZATION)))


@pytest.mark.parametrize("what", BAD)
async def test_every_other_token_is_refused(world: World, what: str) -> None:
    answer = await world.api.call("GET", "/campaigns", token=bad_tokens(world.issuer, world.claims())[what])
    assert answer.status == 401, (what, answer)
    assert "request.failed" not in world.api.log


async def test_roles_that_are_none_may_nothing(world: World) -> None:
    for given in (None, "nothing", {"roles": 7}, {"roles": {"admin": True}}, {"roles": ["Admin", 7]}):
        token = world.issuer.token(RSA, "RS256", world.claims(realm_access=given))
        assert await world.status(token) == 200
        assert await world.status(token, "/campaigns") == 403, given


async def test_a_key_that_rotates_is_found_and_one_that_is_withdrawn_ends(world: World) -> None:
    new = ec("ec-2")
    world.issuer.keys.append(new)
    token = world.issuer.token(new, "ES256", world.claims())

    async def is_known() -> bool:
        return await world.status(token) == 200

    assert await eventually(is_known, 30)


async def test_known_keys_work_while_the_issuer_is_away(world: World) -> None:
    token = world.issuer.token(RSA, "RS256", world.claims())
    assert await world.status(token) == 200
    await world.issuer.stop()
    try:
        assert await world.status(token) == 200
        assert await world.status(world.issuer.token(rsa("new"), "RS256", world.claims())) == 401
        assert await world.status(token) == 200
    finally:
        await world.issuer.start()


def tokens_of(issuer: Issuer, *, again: float = 0.0, old: float = 300.0) -> OutsideTokens:
    keys = IssuerKeys(issuer.url, again=again, old=old)
    return OutsideTokens(Outside(issuer=issuer.name, audience=AUDIENCE), keys)


async def is_good(tokens: OutsideTokens, token: str) -> bool:
    header = msgspec.json.decode(_padded(token.partition(".")[0]))
    try:
        await tokens.verify(token, header, datetime.now(UTC))
    except Unauthorized:
        return False
    return True


def _padded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


async def test_unknown_kids_do_not_make_us_ask_again_and_again() -> None:
    async with Issuer(RSA) as issuer:
        tokens = tokens_of(issuer, again=3600.0)
        claims = issuer.claims(ORGANIZATION)
        for number in range(20):
            assert not await is_good(tokens, issuer.token(RSA, "RS256", claims, kid=f"x{number}"))
        assert await is_good(tokens, issuer.token(RSA, "RS256", claims))
        assert issuer.asked == 1


async def test_what_is_no_jwks_leaves_the_keys_as_they_are() -> None:
    async with Issuer(RSA) as issuer:
        tokens = tokens_of(issuer)
        good = issuer.token(RSA, "RS256", issuer.claims(ORGANIZATION))
        other = issuer.token(EC, "ES256", issuer.claims(ORGANIZATION))
        assert await is_good(tokens, good)
        for wrong in (b"", b"{", b"[]", b'{"keys": 1}', b"x" * (2 << 20)):
            issuer.body = wrong
            assert not await is_good(tokens, other)
            assert await is_good(tokens, good)
        asked = issuer.asked
        issuer.body = (
            b'{"keys": [1, null, {"kty": "oct", "kid": "ec-1", "k": "AAAA"}, {"kty": "RSA", "kid": "ec-1"}]}'
        )
        assert not await is_good(tokens, other)
        assert issuer.asked == asked + 1
        assert not await is_good(tokens, good)


async def test_a_key_that_is_withdrawn_ends_when_the_keys_are_read_again() -> None:
    async with Issuer(RSA, EC) as issuer:
        tokens = tokens_of(issuer, old=0.0)
        token = issuer.token(EC, "ES256", issuer.claims(ORGANIZATION))
        assert await is_good(tokens, token)
        issuer.keys.remove(EC)

        async def ended() -> bool:
            return not await is_good(tokens, token)

        assert await eventually(ended, 10)
