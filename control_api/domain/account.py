"""What the ledger knows of a campaign at the moment of a decision, under the account's lock."""

from datetime import datetime

import msgspec

from schemas.reasons import Threshold


class Account(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """Counts and money (micros) of a campaign; field names are the ledger's columns.

    Counts include unbilled events, never bots or duplicates. `crossed` holds the thresholds of the current
    budget version; it is read only where a decision needs it.
    """

    currency: str
    budget: int | None = None
    budget_version: int = 1
    max_impressions: int | None = None
    impressions: int = 0
    clicks: int = 0
    conversions: int = 0
    bounces: int = 0
    unsubscribes: int = 0
    billable_impressions: int = 0
    billed: int = 0
    overdelivery: int = 0
    revenue: int = 0
    unverified_revenue: int = 0
    invalid_impressions: int = 0
    invalid_clicks: int = 0
    invalid_conversions: int = 0
    last_received_at: datetime | None = None
    unbilled: dict[str, int] = {}
    crossed: frozenset[Threshold] = frozenset()

    @property
    def has_events(self) -> bool:
        """Whether anything at all was recorded for the campaign, invalid traffic included."""
        counts = (
            self.impressions,
            self.clicks,
            self.conversions,
            self.bounces,
            self.unsubscribes,
            self.invalid_impressions,
            self.invalid_clicks,
            self.invalid_conversions,
            sum(self.unbilled.values()),
        )
        return self.last_received_at is not None or any(counts)
