"""Keys of the doors: what may be asked for, and what the doors are told."""

from datetime import timedelta

import pytest

from control_api.domain.keys import KeyRequest, StoredKey, as_browsers_send, check_key, snapshot_of
from control_api.domain.snapshot import millis
from schemas.access_keys import KeyKind
from schemas.reasons import Scope
from tests.unit.control_api.samples import NOW, ORGANIZATION_ID, USER_ID


def wrong(**asked: object) -> set[str]:
    request = KeyRequest(**{"name": "shop", "kind": KeyKind.PUBLISHABLE} | asked)  # type: ignore[arg-type]
    return {error.pointer for error in check_key(request, NOW)}


def test_a_publishable_key_only_reports_what_visitors_do() -> None:
    assert not wrong()
    assert wrong(scopes=(Scope.WRITE, Scope.COST)) == {"/scopes"}
    assert not wrong(kind=KeyKind.SERVER, scopes=tuple(Scope))


def test_a_key_ends_in_the_future() -> None:
    assert wrong(expires_at=NOW) == {"/expiresAt"}
    assert not wrong(expires_at=NOW + timedelta(seconds=1))


@pytest.mark.parametrize("origin", ["http://[:]", "http://[1:2:3]", "https://[::1::2]:443", "http://["])
def test_brackets_hold_an_address(origin: str) -> None:
    assert wrong(allowed_origins=("https://shop.example", origin)) == {"/allowedOrigins/1"}


def test_addresses_in_brackets_are_origins() -> None:
    assert not wrong(allowed_origins=("http://[::1]:3000", "https://shop.example"))


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://Shop.Example:443", "https://shop.example"),
        ("http://shop.example:80", "http://shop.example"),
        ("http://shop.example:443", "http://shop.example:443"),
        ("https://shop.example:80", "https://shop.example:80"),
    ],
)
def test_origins_are_compared_as_browsers_send_them(written: str, sent: str) -> None:
    assert as_browsers_send(written) == sent


def test_the_doors_know_a_key_by_its_hash_with_its_end_and_whether_it_is_revoked() -> None:
    key = StoredKey(
        id="k",
        organization_id=ORGANIZATION_ID,
        name="shop",
        key_hash="ab",
        hint="pk_",
        kind=KeyKind.PUBLISHABLE,
        scopes=(Scope.WRITE,),
        events_per_second=10,
        burst=20,
        created_by=USER_ID,
        created_at=NOW,
        expires_at=NOW + timedelta(days=1),
        revoked_at=NOW,
        version=2,
    )
    known = snapshot_of(key)
    assert (known.key_hash, known.key_id, known.version, known.revoked) == ("ab", "k", 2, True)
    assert known.expires_at == millis(NOW + timedelta(days=1))
    assert (known.limits.events_per_second, known.limits.burst) == (10, 20)
