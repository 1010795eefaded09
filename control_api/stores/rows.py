"""Rows of Postgres as domain values, and back."""

from decimal import Decimal
from typing import Any

import asyncpg
import msgspec

from control_api.domain.account import Account
from control_api.domain.campaign import Campaign, CampaignType, PendingBudget, Settings
from control_api.domain.keys import StoredKey
from control_api.domain.organization import Limits, Organization, User
from control_api.domain.snapshot import millis
from schemas.access_keys import KeyKind
from schemas.budget_gates import BudgetGate, Coordinates
from schemas.money import Money, in_decimals_of
from schemas.reasons import CampaignStatus, Scope, StatusReason, Threshold

_settings = msgspec.json.Decoder(Settings)
_rules = msgspec.json.Decoder(tuple[str, ...])
_pending = msgspec.json.Decoder(PendingBudget)
_limits = msgspec.json.Decoder(dict[str, Limits])
_account = msgspec.json.Decoder(Account)
_unbilled = msgspec.json.Decoder(dict[str, int])
_NO_EVENT = Coordinates(-1, -1, -1, -1)
_encoder = msgspec.json.Encoder(decimal_format="number")


def to_json(value: Any) -> str:
    """Text for a jsonb column; decimals are numbers."""
    return _encoder.encode(value).decode()


def campaign_from(row: asyncpg.Record) -> Campaign:
    """A row of control.campaigns."""
    amount, currency = row["budget_amount"], row["budget_currency"]
    return Campaign(
        id=str(row["id"]),
        organization_id=str(row["organization_id"]),
        name=row["name"],
        description=row["description"],
        type=CampaignType(row["type"]),
        targeting_rules=_rules.decode(row["targeting_rules"]),
        start_date=row["start_date"],
        end_date=row["end_date"],
        budget=None if amount is None else Money(in_decimals_of(currency, amount), currency),
        settings=_settings.decode(row["settings"]),
        currency=row["currency"],
        status=CampaignStatus(row["status"]),
        status_reason=StatusReason(row["status_reason"]) if row["status_reason"] else None,
        budget_version=row["budget_version"],
        acknowledged_threshold=row["acknowledged_threshold"],
        pending_budget=_pending.decode(row["pending_budget"]) if row["pending_budget"] else None,
        approved_budget_version=row["approved_budget_version"],
        budget_changed_by=str(row["budget_changed_by"] or row["created_by"]),
        closed_since=row["closed_since"],
        created_by=str(row["created_by"]),
        created_at=row["created_at"],
        updated_by=str(row["updated_by"] or row["created_by"]),
        updated_at=row["updated_at"],
        deleted_at=row["deleted_at"],
        version=row["version"],
    )


def campaign_columns(campaign: Campaign) -> dict[str, Any]:
    """The columns of control.campaigns that change with a campaign, by name."""
    return {
        "id": campaign.id,
        "name": campaign.name,
        "description": campaign.description,
        "status": campaign.status.value,
        "type": campaign.type.value,
        "targeting_rules": to_json(campaign.targeting_rules),
        "start_date": campaign.start_date,
        "end_date": campaign.end_date,
        "currency": campaign.currency,
        "budget_amount": campaign.budget.amount if campaign.budget else None,
        "budget_currency": campaign.budget.currency if campaign.budget else None,
        "budget_version": campaign.budget_version,
        "settings": to_json(campaign.settings),
        "version": campaign.version,
    }


def account_columns(campaign: Campaign) -> dict[str, Any]:
    """The columns of ledger.accounts that are a campaign's to say, by name."""
    return {
        "campaign_id": campaign.id,
        "organization_id": campaign.organization_id,
        "currency": campaign.currency,
        "budget": campaign.effective_budget,
        "budget_version": campaign.budget_version,
        "max_impressions": campaign.max_impressions,
    }


def account_from_json(account: str, unbilled: str | None) -> Account:
    """An account as JSON of its row, with its unbilled events by reason."""
    read = _account.decode(account)
    return msgspec.structs.replace(read, unbilled=_unbilled.decode(unbilled) if unbilled else {})


def organization_from(row: asyncpg.Record) -> Organization:
    """A row of get_organization."""
    return Organization(
        id=str(row["id"]),
        name=row["name"],
        time_zone=row["time_zone"],
        default_currency=row["default_currency"],
        limits={
            currency: _with_decimals(limits, currency)
            for currency, limits in _limits.decode(row["limits"]).items()
        },
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        version=row["version"],
    )


def _with_decimals(limits: Limits, currency: str) -> Limits:
    """The limits with the decimals of their currency; the column has three for all of them."""

    def shown(amount: Decimal | None) -> Decimal | None:
        return None if amount is None else in_decimals_of(currency, amount)

    return Limits(shown(limits.largest_budget), shown(limits.approval_threshold))


def key_from(row: asyncpg.Record) -> StoredKey:
    """A row of control.access_keys."""
    return StoredKey(
        id=str(row["id"]),
        organization_id=str(row["organization_id"]),
        name=row["name"],
        key_hash=row["key_hash"],
        hint=row["hint"],
        kind=KeyKind(row["kind"]),
        scopes=tuple(Scope(scope) for scope in row["scopes"]),
        allowed_origins=tuple(row["allowed_origins"]),
        events_per_second=row["events_per_second"],
        burst=row["burst"],
        created_by=str(row["created_by"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        version=row["version"],
    )


def unfollowed_from(row: asyncpg.Record) -> BudgetGate:
    """A row of unfollowed_crossings."""
    return BudgetGate(
        campaign_id=str(row["campaign_id"]),
        organization_id=str(row["organization_id"]),
        version=row["gate_version"],
        budget_version=row["budget_version"],
        thresholds=tuple(Threshold(threshold) for threshold in row["thresholds"]),
        billed=row["billed"],
        at=millis(row["received_at"]),
        cause=_NO_EVENT,
    )


def user_from(row: asyncpg.Record) -> User:
    """A row of control.users."""
    return User(str(row["id"]), str(row["organization_id"]), row["email"], row["name"], tuple(row["roles"]))
