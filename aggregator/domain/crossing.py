"""Which thresholds a campaign's spend has reached. Compared in integers; each is crossed once a version."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import msgspec

from schemas.budget_gates import Coordinates
from schemas.reasons import Threshold


class Limits(Protocol):
    """The part of an account that thresholds are about. Money is micros, None for no limit."""

    @property
    def budget(self) -> int | None: ...
    @property
    def max_impressions(self) -> int | None: ...
    @property
    def billed(self) -> int: ...
    @property
    def billable_impressions(self) -> int: ...


class Crossing(msgspec.Struct, frozen=True, kw_only=True):
    """One threshold crossed by one event. `billed` (micros) includes the event; `received_at` is epoch ms."""

    campaign_id: str
    organization_id: str
    budget_version: int
    threshold: Threshold
    billed: int
    received_at: int
    cause: Coordinates


def crossed_by(account: Limits, billed: int, impressions: int) -> Iterator[Threshold]:
    """The thresholds reached once `billed` micros and `impressions` are added to the account."""
    if account.budget is not None:
        total = account.billed + billed
        if total * 10 >= account.budget * 9:
            yield Threshold.BUDGET_90
        if total >= account.budget:
            yield Threshold.BUDGET_100
    if (
        account.max_impressions is not None
        and account.billable_impressions + impressions >= account.max_impressions
    ):
        yield Threshold.MAX_IMPRESSIONS


def crossed_after(
    crossed: Mapping[str, frozenset[Threshold]], crossings: Iterable[Crossing]
) -> dict[str, frozenset[Threshold]]:
    """What each campaign has crossed once `crossings` are added to what it had crossed before."""
    after = dict(crossed)
    for crossing in crossings:
        after[crossing.campaign_id] = after.get(crossing.campaign_id, frozenset()) | {crossing.threshold}
    return after


def near_threshold(account: Limits, cost: int, impressions: int) -> bool:
    """Whether what is billed at once, of at most `cost` micros and `impressions`, could reach a threshold.

    The same as whether `crossed_by` yields anything, for all campaigns of a bill: nearly always False.
    """
    budget, limit = account.budget, account.max_impressions
    if budget is not None and (account.billed + cost) * 10 >= budget * 9:
        return True
    return limit is not None and account.billable_impressions + impressions >= limit
