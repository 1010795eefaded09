"""Examples of answers about webhooks, by the name of their schema."""

from typing import Any

_ID = "0190b2c4-0000-7000-8000-00000000000e"
_USER = "0190b2c4-0000-7000-8000-00000000000b"
_EVENT = "0190b2c4-0000-7000-8000-000000000010"
_CAMPAIGN = "0190b2c4-0000-7000-8000-00000000000a"
_PAUSED = "flightline.campaign.paused"

_WEBHOOK = {
    "id": _ID,
    "url": "https://shop.example/hooks/flightline",
    "eventTypes": [_PAUSED, "flightline.campaign.completed"],
    "description": "stops the ad server",
    "active": True,
    "inactiveReason": None,
    "previousSecretUntil": None,
    "createdBy": _USER,
    "createdAt": "2027-05-15T10:30:00Z",
    "updatedBy": _USER,
    "updatedAt": "2027-05-15T10:30:00Z",
    "version": 1,
}
_DELIVERY = {
    "id": "0190b2c4-0000-7000-8000-00000000000f",
    "webhookId": _ID,
    "eventId": _EVENT,
    "eventType": _PAUSED,
    "subject": _CAMPAIGN,
    "state": "PENDING",
    "attempts": 1,
    "nextAttemptAt": "2027-06-20T15:45:06Z",
    "lastAttemptAt": "2027-06-20T15:45:00Z",
    "responseStatus": 500,
    "response": "try later",
    "error": "answered 500",
    "milliseconds": 84,
    "createdAt": "2027-06-20T15:45:00Z",
    "deliveredAt": None,
}
_CLOUD_EVENT = {
    "id": _EVENT,
    "source": "/flightline/control-api",
    "type": _PAUSED,
    "subject": _CAMPAIGN,
    "time": "2027-06-20T15:45:00.000Z",
    "organization": "0190b2c4-0000-7000-8000-00000000000c",
    "specversion": "1.0",
    "datacontenttype": "application/json",
    "correlationid": "5f0c1c9e",
    "traceparent": None,
    "data": {"name": "Summer Sale", "status": "PAUSED", "statusReason": "BUDGET_90", "version": 3},
}

WEBHOOK_ANSWERS: dict[str, Any] = {
    "WebhookView": _WEBHOOK,
    "WebhooksView": {"items": [_WEBHOOK]},
    "MadeWebhookView": _WEBHOOK | {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw…"},
    "DeliveryView": _DELIVERY,
    "DeliveryDetailView": _DELIVERY | {"payload": _CLOUD_EVENT},
    "DeliveriesView": {"items": [_DELIVERY], "nextCursor": None},
    "RedeliveredView": {"redelivered": 17},
}
