"""What a second use of a refresh token means."""

from datetime import timedelta

import pytest

from control_api.auth.signer import SessionSigner
from control_api.auth.tokens import Tokens
from control_api.domain.sessions import AT_ONCE, LOST, RefreshToken, Verdict, judge
from tests.unit.control_api.samples import NOW

SECRET = "0123456789abcdef0123456789abcdef"
_MS = timedelta(milliseconds=1)


def used(ago: timedelta, **changes: object) -> RefreshToken:
    given: dict[str, object] = {"used_at": NOW - ago, "salt": b"s", "successor": b"h"}
    return RefreshToken(**(given | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("token", "verdict"),
    [
        (RefreshToken(), Verdict.ROTATE),
        (used(timedelta(0)), Verdict.SAME_AGAIN),
        (used(AT_ONCE), Verdict.SAME_AGAIN),
        (used(AT_ONCE + _MS), Verdict.ANEW),
        (used(LOST), Verdict.ANEW),
        (used(LOST + _MS), Verdict.REUSED),
        (used(timedelta(0), went_on=True), Verdict.REUSED),
        (used(AT_ONCE + _MS, went_on=True), Verdict.REUSED),
        (used(timedelta(0), salt=None, successor=None), Verdict.REUSED),
    ],
)
def test_a_refresh_token_is_judged_by_its_use_and_its_successors(token, verdict):
    assert judge(token, NOW) is verdict


def test_a_successor_is_the_same_again_and_nobody_elses():
    signer, other = (SessionSigner(secret, Tokens(SECRET)) for secret in (SECRET, SECRET[::-1]))
    first = signer.successor("token", b"salt")
    assert first == signer.successor("token", b"salt")
    assert len(first) == 43
    assert len({first, signer.successor("token", b"pepper"), signer.successor("t", b"salt")}) == 3
    assert other.successor("token", b"salt") != first
    assert signer.hash(first) != first.encode()
