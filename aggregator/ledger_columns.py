"""Deltas and crossings as the arrays that the ledger's statements unnest.

Where there are thousands of rows, as the text of an array: the driver looks at each element of a list, to see
whether it is a list itself, and takes twice as long.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from aggregator.domain.billing import Delta
from aggregator.domain.crossing import Crossing

_DELTA_COLUMNS = (
    "impressions",
    "clicks",
    "conversions",
    "bounces",
    "unsubscribes",
    "billable_impressions",
    "billed",
    "overdelivery",
    "revenue",
    "unverified_revenue",
    "invalid_impressions",
    "invalid_clicks",
    "invalid_conversions",
    "duplicates",
    "flat_billed",
)


_MONEY = frozenset({"billed", "overdelivery", "revenue", "unverified_revenue"})
_MOST = 2**63 - 1


def _text(values: Iterable[object]) -> str:
    """The text of an array of numbers, UUIDs, booleans or NULL (None). Others would have to be quoted."""
    return f"{{{','.join(['NULL' if value is None else str(value) for value in values])}}}"


def delta_columns(deltas: Sequence[Delta], crossing: set[str]) -> dict[str, str]:
    """The texts of arrays. They are empty where all are zero, as nearly always in most columns.

    Sums of money are cut off at the largest bigint, where the ledger's own stay: no sum that a client can
    send stops a partition.
    """
    columns: dict[str, list[Any]] = {
        name: [getattr(delta, name) for delta in deltas] for name in _DELTA_COLUMNS
    }
    for name in _MONEY:
        if max(columns[name], default=0) > _MOST:
            columns[name] = [min(amount, _MOST) for amount in columns[name]]
    columns["gates"] = [int(delta.campaign_id in crossing) for delta in deltas] if crossing else []
    columns = {name: column if any(column) else [] for name, column in columns.items()}
    columns["campaign_ids"] = [delta.campaign_id for delta in deltas]
    columns["last_received_at"] = [delta.last_received_at or None for delta in deltas]
    return {name: _text(column) for name, column in columns.items()}


def crossing_columns(crossings: Sequence[Crossing]) -> dict[str, list[Any]]:
    return {
        "campaign_ids": [c.campaign_id for c in crossings],
        "budget_versions": [c.budget_version for c in crossings],
        "thresholds": [c.threshold.value for c in crossings],
        "billed": [c.billed for c in crossings],
        "received_at": [_timestamp(c.received_at) for c in crossings],
        "incarnations": [c.cause.incarnation for c in crossings],
        "partitions": [c.cause.partition for c in crossings],
        "log_offsets": [c.cause.offset for c in crossings],
        "event_indexes": [c.cause.index for c in crossings],
    }


def _timestamp(epoch_ms: int) -> datetime:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC)
