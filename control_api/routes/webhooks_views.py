"""What the API shows of webhooks and their deliveries."""

from datetime import datetime
from typing import Any

import msgspec

from control_api.domain.deliveries import Delivery, DeliveryState
from control_api.domain.webhooks import Webhook


class WebhookView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A webhook without its secret; `previousSecretUntil` is how long the secret of before signs as well."""

    id: str
    url: str
    event_types: tuple[str, ...]
    description: str
    active: bool
    inactive_reason: str | None
    previous_secret_until: datetime | None
    created_by: str
    created_at: datetime
    updated_by: str
    updated_at: datetime
    version: int


class MadeWebhookView(WebhookView, frozen=True, kw_only=True):
    """A webhook with a new secret; `secret` is shown this once."""

    secret: str


class WebhooksView(msgspec.Struct, frozen=True):
    """All webhooks of an organization."""

    items: list[WebhookView]


class DeliveryView(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A delivery; `response` is how the last answer began, `nextAttemptAt` is null when there is none."""

    id: str
    webhook_id: str
    event_id: str
    event_type: str
    subject: str
    state: DeliveryState
    attempts: int
    next_attempt_at: datetime | None
    last_attempt_at: datetime | None
    response_status: int | None
    response: str | None
    error: str | None
    milliseconds: int | None
    created_at: datetime
    delivered_at: datetime | None


class DeliveryDetailView(DeliveryView, frozen=True, kw_only=True):
    """A delivery with the CloudEvent that it carries."""

    payload: Any


class DeliveriesView(msgspec.Struct, frozen=True, rename="camel"):
    """One page of deliveries, the newest first; `nextCursor` is null on the last one."""

    items: list[DeliveryView]
    next_cursor: str | None


class RedeliveredView(msgspec.Struct, frozen=True):
    """How many deliveries are sent again."""

    redelivered: int


def webhook_view(webhook: Webhook, now: datetime) -> WebhookView:
    """A webhook as shown at `now`."""
    return WebhookView(**_webhook(webhook, now))


def made_webhook_view(webhook: Webhook, secret: str, now: datetime) -> MadeWebhookView:
    """The same with its new secret."""
    return MadeWebhookView(**_webhook(webhook, now), secret=secret)


def _webhook(webhook: Webhook, now: datetime) -> dict[str, Any]:
    until = webhook.previous_until
    shown = {name: getattr(webhook, name, None) for name in WebhookView.__struct_fields__}
    return shown | {"previous_secret_until": until if until and until > now else None}


def delivery_view(delivery: Delivery) -> DeliveryView:
    """A delivery in a list."""
    return DeliveryView(**_delivery(delivery))


def delivery_detail_view(delivery: Delivery) -> DeliveryDetailView:
    """A delivery by itself."""
    return DeliveryDetailView(**_delivery(delivery), payload=msgspec.json.decode(delivery.payload))


def _delivery(delivery: Delivery) -> dict[str, Any]:
    shown = {name: getattr(delivery, name) for name in DeliveryView.__struct_fields__}
    waits = delivery.state is DeliveryState.PENDING
    return shown | {"next_attempt_at": delivery.next_attempt_at if waits else None}
