"""An organization: its time zone and its limits per currency."""

from datetime import datetime
from decimal import Decimal

import msgspec


class Limits(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Of one currency, in its units: the largest budget, and above which a budget needs approval."""

    largest_budget: Decimal | None = None
    approval_threshold: Decimal | None = None


class Organization(msgspec.Struct, frozen=True, kw_only=True):
    """Owner of campaigns, users and keys."""

    id: str
    name: str
    time_zone: str = "UTC"
    default_currency: str = "EUR"
    limits: dict[str, Limits] = {}
    created_at: datetime
    updated_at: datetime
    version: int = 1

    def limits_in(self, currency: str) -> Limits:
        """The limits that hold for a currency; none when it has no entry."""
        return self.limits.get(currency, Limits())


class User(msgspec.Struct, frozen=True):
    """A person of an organization."""

    id: str
    organization_id: str
    email: str
    name: str
    roles: tuple[str, ...]
