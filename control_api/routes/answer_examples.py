"""An example of each answer, by the name of its schema; a test holds each to its schema."""

from typing import Any

from control_api.routes.webhooks_examples import WEBHOOK_ANSWERS
from control_api.routes.work_examples import work_answers

_ID = "0190b2c4-0000-7000-8000-00000000000a"
_USER = "0190b2c4-0000-7000-8000-00000000000b"
_ORGANIZATION = "0190b2c4-0000-7000-8000-00000000000c"


def _euros(amount: float) -> dict[str, Any]:
    return {"amount": amount, "currency": "EUR"}


_METRICS = {
    "impressions": 15420,
    "clicks": 1234,
    "conversions": 89,
    "bounces": 40,
    "unsubscribes": 2,
    "revenue": _euros(4450.00),
    "unverifiedRevenue": _euros(120.00),
    "cost": _euros(890.00),
    "overdeliveryCost": _euros(0),
    "billableImpressions": 15380,
    "ctr": 8.0,
    "conversionRate": 7.2,
    "costPerClick": _euros(0.721232),
    "costPerConversion": _euros(10.0),
    "roas": 5.0,
    "roi": 400.0,
    "unbilled": {"PAUSED": 40},
    "invalidTraffic": {"impressions": 211, "clicks": 3, "conversions": 0},
    "budget": {
        "limit": _euros(10000.00),
        "billed": _euros(890.00),
        "remaining": _euros(9110.00),
        "percent": 8.9,
    },
    "lastUpdated": "2027-06-20T15:45:00Z",
}
_CAMPAIGN = {
    "id": _ID,
    "name": "Summer Sale",
    "description": "Summer promotion campaign with 20% discount",
    "status": "ACTIVE",
    "effectiveStatus": "ACTIVE",
    "statusReason": None,
    "type": "PROMOTION",
    "targetingRules": ["rule-123", "rule-456"],
    "startDate": "2027-06-01T00:00:00Z",
    "endDate": "2027-08-31T23:59:59Z",
    "currency": "EUR",
    "budget": _euros(10000.00),
    "pendingBudget": None,
    "budgetVersion": 1,
    "acknowledgedThreshold": 0,
    "createdBy": _USER,
    "createdAt": "2027-05-15T10:30:00Z",
    "updatedBy": _USER,
    "updatedAt": "2027-05-15T10:30:00Z",
    "settings": {
        "targetAudience": ["segment-1", "segment-2"],
        "channels": ["EMAIL", "WEB", "PUSH"],
        "frequency": "WEEKLY",
        "maxImpressions": 100000,
        "pricing": {"model": "CPM", "price": _euros(2.50)},
        "landingHosts": [],
        "schedulingRules": [],
        "personalization": {"enabled": True, "rules": ["personalization-rule-1"]},
    },
    "metrics": _METRICS,
    "warnings": [],
    "version": 2,
}
_FIGURES = {
    "impressions": 15420,
    "clicks": 1234,
    "conversions": 89,
    "revenue": _euros(4450.00),
    "cost": _euros(890.00),
    "overdeliveryCost": _euros(0),
    "ctr": 8.0,
    "conversionRate": 7.2,
    "costPerClick": _euros(0.721232),
    "costPerConversion": _euros(10.0),
    "roas": 5.0,
    "roi": 400.0,
}
_TOTALS = _FIGURES | {"bounces": 40, "unsubscribes": 2, "lastUpdated": "2027-06-20T15:45:00Z"}
_REPORT = {
    "period": {"from": "2027-06-19T22:00:00Z", "to": "2027-06-20T22:00:00Z", "timeZone": "Europe/Berlin"},
    "totals": _TOTALS,
    "previous": {
        "period": {"from": "2027-06-18T22:00:00Z", "to": "2027-06-19T22:00:00Z", "timeZone": "Europe/Berlin"},
        "totals": _TOTALS,
        "changes": {"impressions": 0.0, "clicks": 0.0, "conversions": 0.0, "revenue": 0.0, "cost": 0.0},
    },
    "series": [_FIGURES | {"from": "2027-06-19T22:00:00Z", "to": "2027-06-20T22:00:00Z"}],
    "groups": [_FIGURES | {"key": {"channel": "WEB", "variant": None}}],
    "pacing": {
        "expected": _euros(2111.11),
        "actual": _euros(890.00),
        "projectedEnd": "2027-12-22T06:00:00Z",
    },
}
_AUDIENCE = {
    "targets": {
        "segments": ["segment-1", "segment-2"],
        "rules": ["rule-123", "rule-456"],
        "personalizationRules": ["personalization-rule-1"],
        "channels": ["EMAIL", "WEB", "PUSH"],
        "frequency": "WEEKLY",
        "frequencyCap": {"impressions": 5, "perHours": 24},
    },
    "reached": {
        "visitors": 9120,
        "timeZone": "Europe/Berlin",
        "byDay": [{"day": "2027-06-20", "visitors": 4410}],
    },
    "evaluation": {"available": False, "detail": "no rules service is connected"},
}
_STATUS = '{"status":"ACTIVE","effectiveStatus":"ACTIVE","statusReason":null,"version":2,"budgetVersion":1'
STREAM = (
    "retry: 2000\n\n"
    'id: 5d1f0c2e9a7b4c3d.\nevent: metrics\ndata: {"impressions":15420,"clicks":1234}\n\n'
    f'id: 5d1f0c2e9a7b4c3d.0a1b2c3d4e5f6071\nevent: status\ndata: {_STATUS},"crossed":["90"]}}\n\n'
    ": still here\n\n"
    'event: end\ndata: {"reason":"token-expired"}\n\n'
)
"""A stream of metrics, with less of them than there is."""
_KEY = {
    "id": "0190b2c4-0000-7000-8000-00000000000d",
    "name": "web shop",
    "kind": "publishable",
    "hint": "pk_3kT9x",
    "scopes": ["events:write"],
    "allowedOrigins": ["https://shop.example"],
    "eventsPerSecond": None,
    "burst": None,
    "createdBy": _USER,
    "createdAt": "2027-05-15T10:30:00Z",
    "expiresAt": None,
    "lastUsedAt": None,
    "revokedAt": None,
}
_KIM = {
    "id": _USER,
    "email": "kim@shop.example",
    "name": "Kim",
    "roles": ["editor"],
    "active": True,
    "hasPassword": True,
    "createdAt": "2027-05-15T10:30:00Z",
    "updatedAt": "2027-05-15T10:30:00Z",
    "version": 1,
}
_ENTRY = {
    "seq": 1207,
    "at": "2027-06-20T15:45:00.123Z",
    "actor": _USER,
    "action": "campaign.paused",
    "subjectType": "campaign",
    "subjectId": _ID,
    "reason": None,
    "correlationId": "0190b2c4-0000-7000-8000-000000000001",
    "address": "5f0c1c9e0f4b4e0a",
    "before": {"status": "ACTIVE"},
    "after": {"status": "PAUSED"},
    "hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
}

ANSWERS: dict[str, Any] = {
    "CampaignView": _CAMPAIGN,
    "PageView": {"items": [_CAMPAIGN], "nextCursor": None},
    "Metrics": _METRICS,
    "ApiKeysView": {"items": [_KEY], "nextCursor": None},
    "UserView": _KIM,
    "UsersView": {"items": [_KIM], "nextCursor": None},
    "TokensView": {
        "accessToken": "eyJhbGciOiJIUzI1NiJ9…",
        "tokenType": "Bearer",
        "expiresIn": 600,
        "refreshToken": "4pTRvd0Jq8Hc0lXKZ3f5m9zG1uWnYbQe7sLaMiOtxkE",
        "sessionExpiresAt": "2027-06-14T10:30:00Z",
        "user": _KIM,
    },
    "AuditPageView": {"items": [_ENTRY], "nextCursor": None},
    "AuditView": _ENTRY,
    "MadeApiKeyView": _KEY | {"key": "pk_3kT9x…"},
    "Report": _REPORT,
    "Audience": _AUDIENCE,
    "Result": {"eventId": "order-4711", "status": "accepted", "serve": True},
    "OrganizationView": {
        "id": _ORGANIZATION,
        "name": "Shop Ltd",
        "timeZone": "Europe/Berlin",
        "defaultCurrency": "EUR",
        "limits": {"EUR": {"largestBudget": 50000.00, "approvalThreshold": 10000.00}},
        "createdAt": "2027-01-01T00:00:00Z",
        "updatedAt": "2027-01-01T00:00:00Z",
        "version": 1,
    },
    "MeView": {
        "id": _USER,
        "organizationId": _ORGANIZATION,
        "roles": ["editor"],
        "permissions": ["campaigns:read", "campaigns:run", "campaigns:write", "events:track"],
        "email": "kim@shop.example",
        "name": "Kim",
    },
    **WEBHOOK_ANSWERS,
    **work_answers(_CAMPAIGN),
}
