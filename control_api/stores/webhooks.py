"""Webhooks in Postgres, within one transaction."""

from collections.abc import Iterable

import asyncpg

from control_api.domain.webhooks import Webhook
from sql.load import postgres_queries

_queries = postgres_queries("control_webhooks")


class WebhookStatements:
    """Implements handlers.webhook_ports.WebhookRows."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def create(self, webhook: Webhook) -> None:
        await _queries.create_webhook(
            self._connection,
            id=webhook.id,
            organization_id=webhook.organization_id,
            url=webhook.url,
            event_types=list(webhook.event_types),
            description=webhook.description,
            active=webhook.active,
            secret=webhook.secret,
            created_by=webhook.created_by,
            created_at=webhook.created_at,
        )

    async def of_organization(self, organization_id: str) -> list[Webhook]:
        rows = _queries.list_webhooks(self._connection, organization_id=organization_id)
        return [_webhook_from(row) async for row in rows]

    async def get(self, organization_id: str, webhook_id: str) -> Webhook | None:
        row = await _queries.get_webhook(self._connection, id=webhook_id, organization_id=organization_id)
        return _webhook_from(row) if row else None

    async def lock(self, organization_id: str, webhook_id: str) -> Webhook | None:
        row = await _queries.lock_webhook(self._connection, id=webhook_id, organization_id=organization_id)
        return _webhook_from(row) if row else None

    async def update(self, webhook: Webhook) -> None:
        await _queries.update_webhook(
            self._connection,
            id=webhook.id,
            url=webhook.url,
            event_types=list(webhook.event_types),
            description=webhook.description,
            active=webhook.active,
            active_since=webhook.active_since,
            inactive_reason=webhook.inactive_reason,
            secret=webhook.secret,
            previous_secret=webhook.previous_secret,
            previous_until=webhook.previous_until,
            updated_by=webhook.updated_by,
            updated_at=webhook.updated_at,
            version=webhook.version,
        )

    async def delete(self, webhook_id: str) -> None:
        await _queries.delete_webhook(self._connection, id=webhook_id)

    async def subscribers(self, organizations: Iterable[str]) -> list[Webhook]:
        rows = _queries.subscribers(self._connection, organizations=list(organizations))
        return [_webhook_from(row) async for row in rows]


def _webhook_from(row: asyncpg.Record) -> Webhook:
    return Webhook(
        id=str(row["id"]),
        organization_id=str(row["organization_id"]),
        url=row["url"],
        event_types=tuple(row["event_types"]),
        description=row["description"],
        active=row["active"],
        active_since=row["active_since"],
        inactive_reason=row["inactive_reason"],
        secret=row["secret"],
        previous_secret=row["previous_secret"],
        previous_until=row["previous_until"],
        created_by=str(row["created_by"]),
        created_at=row["created_at"],
        updated_by=str(row["updated_by"]),
        updated_at=row["updated_at"],
        version=row["version"],
    )
