"""Everything that one transaction reads and writes."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import asyncpg
import msgspec

from control_api.domain.account import Account
from control_api.domain.approval import Approval, ApprovalState
from control_api.domain.audit import AuditEntry, chain
from control_api.domain.campaign import Campaign
from control_api.domain.keys import StoredKey
from control_api.domain.organization import Limits, Organization
from control_api.stores.approvals import ApprovalStore
from control_api.stores.batch import BatchStore
from control_api.stores.control_keys import PostgresControlKeys
from control_api.stores.copies import CopyStore
from control_api.stores.deliveries import DeliveryStatements
from control_api.stores.exports import ExportStore
from control_api.stores.jobs import JobStore
from control_api.stores.repeat import Repeat
from control_api.stores.rows import (
    account_from_json,
    campaign_columns,
    campaign_from,
    key_from,
    organization_from,
    to_json,
)
from control_api.stores.sessions import PostgresSessions
from control_api.stores.users import PostgresUsers
from control_api.stores.webhooks import WebhookStatements
from schemas.reasons import Threshold
from sql.load import postgres_queries

_campaigns = postgres_queries("control_campaigns")
_ledger = postgres_queries("control_ledger")
_organizations = postgres_queries("control_organizations")
_keys = postgres_queries("control_keys")
_outbox = postgres_queries("control_outbox")
_audit = postgres_queries("control_audit")
_track = postgres_queries("control_track")
_repeats = postgres_queries("control_repeats")


class PostgresUnit:
    """One transaction on one connection; implements handlers.ports.Unit."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self.users = PostgresUsers(connection)
        self.sessions = PostgresSessions(connection)
        self.control_keys = PostgresControlKeys(connection)
        self.webhooks = WebhookStatements(connection)
        self.deliveries = DeliveryStatements(connection)
        self.approvals = ApprovalStore(connection)
        self.copies = CopyStore(connection)
        self.exports = ExportStore(connection)
        self.jobs = JobStore(connection)
        self.batch = BatchStore(connection, self)

    async def organization(self, organization_id: str) -> Organization | None:
        row = await _organizations.get_organization(self._connection, id=organization_id)
        return organization_from(row) if row else None

    async def lock_campaign(self, organization_id: str, campaign_id: str) -> tuple[Campaign, Account] | None:
        # The account first, always: the aggregator and every change of a campaign lock in this order.
        account = await _ledger.lock_account(
            self._connection, campaign_id=campaign_id, organization_id=organization_id
        )
        row = await _campaigns.lock_campaign(
            self._connection, id=campaign_id, organization_id=organization_id
        )
        if account is None or row is None:
            return None
        campaign = campaign_from(row)
        crossed = await _crossings(self._connection, campaign)
        unbilled = _ledger.unbilled_by_reason(self._connection, campaign_id=campaign_id)
        known = {field.name for field in msgspec.structs.fields(Account)}
        columns = {name: value for name, value in account.items() if name in known}
        return campaign, Account(
            **columns, crossed=crossed, unbilled={row["reason"]: row["events"] async for row in unbilled}
        )

    async def create_campaign(self, campaign: Campaign) -> None:
        await _ledger.create_account(
            self._connection,
            organization_id=campaign.organization_id,
            currency=campaign.currency,
            **_budget_columns(campaign),
        )
        await _campaigns.create_campaign(
            self._connection,
            **campaign_columns(campaign),
            organization_id=campaign.organization_id,
            created_by=campaign.created_by,
            created_at=campaign.created_at,
        )

    async def update_campaign(self, campaign: Campaign, previous: Campaign) -> None:
        if (campaign.budget_version, campaign.currency) != (previous.budget_version, previous.currency):
            await _ledger.change_budget(
                self._connection, currency=campaign.currency, **_budget_columns(campaign)
            )
        await _campaigns.update_campaign(
            self._connection,
            **campaign_columns(campaign),
            status_reason=campaign.status_reason.value if campaign.status_reason else None,
            acknowledged_threshold=campaign.acknowledged_threshold,
            pending_budget=to_json(campaign.pending_budget) if campaign.pending_budget else None,
            approved_budget_version=campaign.approved_budget_version,
            budget_changed_by=campaign.budget_changed_by,
            closed_since=campaign.closed_since,
            updated_by=campaign.updated_by,
            updated_at=campaign.updated_at,
            deleted_at=campaign.deleted_at,
            previous_version=previous.version,
        )

    async def name_is_taken(self, organization_id: str, name: str, campaign_id: str) -> bool:
        taken = await _campaigns.name_is_taken(
            self._connection, organization_id=organization_id, name=name, id=campaign_id
        )
        return bool(taken)

    async def record_crossings(
        self, campaign: Campaign, thresholds: Iterable[Threshold], *, billed: int, at: datetime
    ) -> None:
        for threshold in sorted(thresholds):
            await _ledger.record_crossing(
                self._connection,
                campaign_id=campaign.id,
                budget_version=campaign.budget_version,
                threshold=threshold.value,
                billed=billed,
                at=at,
            )

    async def announce(self, campaign_id: str, budget_version: int, threshold: Threshold) -> bool:
        status: str = await _campaigns.announce_crossing(
            self._connection,
            campaign_id=campaign_id,
            budget_version=budget_version,
            threshold=threshold.value,
        )
        return status.endswith(" 1")

    async def withdraw_approvals(
        self, campaign_id: str, states: Sequence[ApprovalState], now: datetime
    ) -> list[Approval]:
        return await self.approvals.withdraw(campaign_id, states, now)

    async def lock_due_accounts(self, now: datetime, most: int) -> list[tuple[str, str]]:
        rows = _campaigns.lock_due_accounts(self._connection, now=now, most=most)
        return [(str(row["organization_id"]), str(row["campaign_id"])) async for row in rows]

    async def add_to_outbox(self, topic: str, key: str, value: bytes) -> int:
        identity: int = await _outbox.add_to_outbox(
            self._connection, topic=topic, key=key.encode(), value=value
        )
        return identity

    async def claim_step(self, repeat: Repeat, step: int) -> bool:
        """Whether this step of a request is done here and now. False when it was done before; waits for a
        transaction that is doing it."""
        claimed = await _repeats.claim_step(
            self._connection, id=repeat.id, step=step, fingerprint=repeat.fingerprint
        )
        return claimed is not None

    async def finish_step(self, repeat: Repeat, step: int, result: bytes) -> None:
        """Keeps the result of a step that was claimed in this transaction."""
        await _repeats.finish_step(self._connection, id=repeat.id, step=step, result=result)

    async def done_step(self, repeat: Repeat, step: int) -> tuple[bytes, bytes] | None:
        """The fingerprint and the result of a step."""
        row = await _repeats.get_step(self._connection, id=repeat.id, step=step)
        return (row["fingerprint"], row["result"]) if row else None

    async def audit(self, entry: AuditEntry) -> None:
        head = await _audit.lock_head(self._connection, organization_id=entry.organization_id)
        row = chain(head["hash"], head["seq"] + 1, entry)
        columns = {name: getattr(entry, name) for name in AuditEntry.__struct_fields__}
        await _audit.append_entry(self._connection, **columns, seq=row.seq, hash=row.hash)

    async def create_key(self, key: StoredKey) -> bool:
        status: str = await _keys.create_key(
            self._connection,
            id=key.id,
            organization_id=key.organization_id,
            name=key.name,
            key_hash=key.key_hash,
            hint=key.hint,
            kind=key.kind.value,
            scopes=[scope.value for scope in key.scopes],
            allowed_origins=list(key.allowed_origins),
            events_per_second=key.events_per_second,
            burst=key.burst,
            created_by=key.created_by,
            created_at=key.created_at,
            expires_at=key.expires_at,
        )
        return status.endswith(" 1")

    async def create_internal_key(self, key: StoredKey) -> StoredKey | None:
        row = await _track.create_internal_key(
            self._connection,
            id=key.id,
            organization_id=key.organization_id,
            name=key.name,
            key_hash=key.key_hash,
            hint=key.hint,
            kind=key.kind.value,
            scopes=[scope.value for scope in key.scopes],
            created_by=key.created_by,
            created_at=key.created_at,
        )
        return key_from(row) if row else None

    async def revoke_internal_keys(self, but: StoredKey, now: datetime) -> list[StoredKey]:
        rows = _track.revoke_internal_keys(
            self._connection, organization_id=but.organization_id, key_hash=but.key_hash, now=now
        )
        return [key_from(row) async for row in rows]

    async def lock_key(self, organization_id: str, key_id: str) -> StoredKey | None:
        row = await _keys.lock_key(self._connection, id=key_id, organization_id=organization_id)
        return key_from(row) if row else None

    async def revoke_key(self, key_id: str, now: datetime) -> None:
        await _keys.revoke_key(self._connection, id=key_id, now=now)

    async def ensure_organization(
        self, organization_id: str, name: str, time_zone: str, currency: str
    ) -> None:
        await _organizations.ensure_organization(
            self._connection, id=organization_id, name=name, time_zone=time_zone, default_currency=currency
        )

    async def ensure_user(self, user_id: str, organization_id: str, email: str, roles: list[str]) -> None:
        await _organizations.ensure_user(
            self._connection, id=user_id, organization_id=organization_id, email=email, name="", roles=roles
        )

    async def lock_organization(self, organization_id: str) -> Organization | None:
        row = await _organizations.lock_organization(self._connection, id=organization_id)
        return await self.organization(organization_id) if row else None

    async def update_organization(
        self,
        organization_id: str,
        *,
        name: str,
        time_zone: str,
        currency: str,
        limits: dict[str, Limits],
        now: datetime,
    ) -> None:
        await _organizations.update_organization(
            self._connection,
            id=organization_id,
            name=name,
            time_zone=time_zone,
            default_currency=currency,
            now=now,
        )
        await _organizations.delete_limits(self._connection, organization_id=organization_id)
        for currency_code, limit in limits.items():
            await _organizations.add_limit(
                self._connection,
                organization_id=organization_id,
                currency=currency_code,
                largest_budget=limit.largest_budget,
                approval_threshold=limit.approval_threshold,
            )


def _budget_columns(campaign: Campaign) -> dict[str, Any]:
    return {
        "campaign_id": campaign.id,
        "budget": campaign.effective_budget,
        "budget_version": campaign.budget_version,
        "max_impressions": campaign.max_impressions,
    }


async def _crossings(connection: asyncpg.Connection, campaign: Campaign) -> frozenset[Threshold]:
    rows = _ledger.crossed_thresholds(
        connection, campaign_id=campaign.id, budget_version=campaign.budget_version
    )
    return frozenset([Threshold(row["threshold"]) async for row in rows])


def read_account(row: asyncpg.Record) -> Account:
    """The account that stands beside a campaign in a row of get_campaign."""
    return account_from_json(row["account"], row["unbilled"])
