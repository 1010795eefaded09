"""Compares the sums of each campaign over all sources. Pure."""

from collections.abc import Mapping

from compose.reconcile.differences import Differences
from compose.reconcile.figures import COUNTS, INVALID, Figures
from compose.reconcile.ledger import Account, Snapshot
from schemas.reasons import Threshold

_COUNTED = (*COUNTS.values(), *INVALID.values(), "unbilled")


def compare_totals(
    snapshot: Snapshot, log: Mapping[str, Figures], rows: Mapping[str, Figures], differences: Differences
) -> None:
    """The ledger beside the log and beside the rows; every campaign that any of them knows."""
    for campaign_id in sorted({*snapshot.figures, *log, *rows}):
        ledger = snapshot.figures.get(campaign_id)
        if ledger is None or campaign_id not in snapshot.accounts:
            differences.add(
                "account missing in the ledger",
                "the log has events of this campaign",
                campaign_id=campaign_id,
            )
            continue
        sides = (("log", log, (*_COUNTED, "duplicates", "revenue", "cost")),
                 ("ClickHouse", rows, (*_COUNTED, "revenue", "billed", "overdelivery")))  # fmt: skip
        for name, side, compared in sides:
            other = side.get(campaign_id, Figures(duplicates=0, revenue=0, cost=0, billed=0, overdelivery=0))
            _compare(campaign_id, ("ledger", ledger), (name, other), compared, differences)
        _check_limits(campaign_id, snapshot.accounts[campaign_id], ledger, differences)
        _check_crossings(campaign_id, snapshot, ledger, differences)


def compare_projection(
    name: str, rows: Mapping[str, Figures], projected: Mapping[str, Figures], differences: Differences
) -> None:
    """A projection beside the rows that it lives with."""
    compared = (*COUNTS.values(), *INVALID.values(), "billed", "overdelivery", "revenue")
    for campaign_id in sorted({*rows, *projected}):
        left, right = rows.get(campaign_id, Figures()), projected.get(campaign_id, Figures())
        _compare(campaign_id, ("ClickHouse", left), (f"projection {name}", right), compared, differences)


def _compare(
    campaign_id: str,
    left: tuple[str, Figures],
    right: tuple[str, Figures],
    names: tuple[str, ...],
    differences: Differences,
) -> None:
    for name in names:
        mine, other = getattr(left[1], name), getattr(right[1], name)
        if mine is None or other is None or mine == other:
            continue
        if name == "unbilled":
            mine, other = dict(+mine), dict(+other)
            if mine == other:
                continue
        differences.add(
            f"{name} differ between {left[0]} and {right[0]}",
            f"{left[0]} {mine}, {right[0]} {other}",
            campaign_id=campaign_id,
        )


def _check_limits(campaign_id: str, account: Account, ledger: Figures, differences: Differences) -> None:
    billed = ledger.billed or 0
    if account.budget is not None and billed > account.budget:
        differences.add(
            "billed above the budget", f"billed {billed}, budget {account.budget}", campaign_id=campaign_id
        )
    limit = account.max_impressions
    if limit is not None and account.billable_impressions > limit:
        differences.add(
            "billable impressions above the limit",
            f"{account.billable_impressions} of {limit}",
            campaign_id=campaign_id,
        )


def _check_crossings(campaign_id: str, snapshot: Snapshot, ledger: Figures, differences: Differences) -> None:
    """Whatever threshold is reached was recorded as crossed, at no less than the threshold."""
    account = snapshot.accounts[campaign_id]
    recorded = {
        crossing.threshold: crossing.billed
        for crossing in snapshot.crossings
        if crossing.campaign_id == campaign_id and crossing.budget_version == account.budget_version
    }
    if account.budget:  # none, or one of nothing at all, has no spend to be compared with
        for threshold, percent in ((Threshold.BUDGET_90, 90), (Threshold.BUDGET_100, 100)):
            is_reached = (ledger.billed or 0) * 100 >= account.budget * percent
            at = recorded.get(threshold)
            if is_reached and at is None:
                differences.add(
                    "crossing missing in the ledger", f"{percent} % of the budget", campaign_id=campaign_id
                )
            elif at is not None and (at * 100 < account.budget * percent or at > (ledger.billed or 0)):
                differences.add(
                    "altered crossing in the ledger",
                    f"{percent} % of {account.budget} recorded at {at}, billed {ledger.billed}",
                    campaign_id=campaign_id,
                )
