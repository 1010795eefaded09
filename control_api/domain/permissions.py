"""Who may what, in one table: permissions of roles, and the permission that each route needs."""

from collections.abc import Iterable
from enum import Enum, StrEnum, auto


class Permission(StrEnum):
    """What can be allowed; also the scopes of keys for this API."""

    CAMPAIGNS_READ = "campaigns:read"
    CAMPAIGNS_WRITE = "campaigns:write"
    CAMPAIGNS_RUN = "campaigns:run"
    APPROVALS_DECIDE = "approvals:decide"
    EVENTS_TRACK = "events:track"
    ORGANIZATION_READ = "organization:read"
    ORGANIZATION_WRITE = "organization:write"
    USERS_MANAGE = "users:manage"
    KEYS_MANAGE = "keys:manage"
    AUDIT_READ = "audit:read"
    WEBHOOKS_MANAGE = "webhooks:manage"


class Role(StrEnum):
    """What a user of an organization is; several may be held at once."""

    VIEWER = "viewer"
    EDITOR = "editor"
    APPROVER = "approver"
    ADMIN = "admin"


_P = Permission
_VIEWER = frozenset({_P.CAMPAIGNS_READ, _P.ORGANIZATION_READ})
_EDITOR = _VIEWER | {_P.CAMPAIGNS_WRITE, _P.CAMPAIGNS_RUN, _P.EVENTS_TRACK}
OF_ROLE: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: _VIEWER,
    Role.EDITOR: _EDITOR,
    Role.APPROVER: _VIEWER | {_P.APPROVALS_DECIDE, _P.AUDIT_READ},
    Role.ADMIN: frozenset(Permission),
}


class Anyone(Enum):
    """Who is not asked for a permission."""

    KNOWN = auto()
    """Whoever has a valid token or key."""
    AT_ALL = auto()
    """Nobody needs a token: it is what he comes for."""


_OF = "/api/v1/campaigns/{campaign_id}"
_HOOK = "/api/v1/webhooks/{webhook_id}"
OF_ROUTE: dict[tuple[str, str], Permission | Anyone] = {
    ("GET", "/api/v1/campaigns"): _P.CAMPAIGNS_READ,
    ("POST", "/api/v1/campaigns"): _P.CAMPAIGNS_WRITE,
    ("GET", _OF): _P.CAMPAIGNS_READ,
    ("PUT", _OF): _P.CAMPAIGNS_WRITE,
    ("DELETE", _OF): _P.CAMPAIGNS_WRITE,
    ("POST", f"{_OF}/activate"): _P.CAMPAIGNS_RUN,
    ("POST", f"{_OF}/pause"): _P.CAMPAIGNS_RUN,
    ("POST", f"{_OF}/stop"): _P.CAMPAIGNS_RUN,
    ("POST", f"{_OF}/duplicate"): _P.CAMPAIGNS_WRITE,
    ("GET", f"{_OF}/metrics"): _P.CAMPAIGNS_READ,
    ("GET", f"{_OF}/metrics/stream"): _P.CAMPAIGNS_READ,
    ("GET", f"{_OF}/performance"): _P.CAMPAIGNS_READ,
    ("GET", f"{_OF}/audience"): _P.CAMPAIGNS_READ,
    ("POST", f"{_OF}/track"): _P.EVENTS_TRACK,
    ("GET", f"{_OF}/approvals"): _P.CAMPAIGNS_READ,
    ("POST", f"{_OF}/approvals"): _P.CAMPAIGNS_WRITE,
    ("POST", f"{_OF}/approvals/{{approval_id}}/approve"): _P.APPROVALS_DECIDE,
    ("POST", f"{_OF}/approvals/{{approval_id}}/reject"): _P.APPROVALS_DECIDE,
    ("GET", "/api/v1/approvals"): _P.CAMPAIGNS_READ,
    ("GET", "/api/v1/campaigns/export"): _P.CAMPAIGNS_READ,
    ("POST", "/api/v1/campaigns/import"): _P.CAMPAIGNS_WRITE,
    ("GET", "/api/v1/jobs/{job_id}"): _P.CAMPAIGNS_READ,
    ("GET", "/api/v1/jobs/{job_id}/errors"): _P.CAMPAIGNS_READ,
    ("POST", "/api/v1/jobs/{job_id}/cancel"): _P.CAMPAIGNS_WRITE,
    ("POST", "/api/v1/campaigns/bulk/activate"): _P.CAMPAIGNS_RUN,
    ("POST", "/api/v1/campaigns/bulk/pause"): _P.CAMPAIGNS_RUN,
    ("POST", "/api/v1/campaigns/bulk/stop"): _P.CAMPAIGNS_RUN,
    ("POST", "/api/v1/campaigns/bulk/delete"): _P.CAMPAIGNS_WRITE,
    ("GET", "/api/v1/api-keys"): _P.KEYS_MANAGE,
    ("POST", "/api/v1/api-keys"): _P.KEYS_MANAGE,
    ("DELETE", "/api/v1/api-keys/{key_id}"): _P.KEYS_MANAGE,
    ("GET", "/api/v1/organization"): _P.ORGANIZATION_READ,
    ("PUT", "/api/v1/organization"): _P.ORGANIZATION_WRITE,
    ("GET", "/api/v1/users"): _P.USERS_MANAGE,
    ("POST", "/api/v1/users"): _P.USERS_MANAGE,
    ("GET", "/api/v1/users/{user_id}"): _P.USERS_MANAGE,
    ("PUT", "/api/v1/users/{user_id}"): _P.USERS_MANAGE,
    ("DELETE", "/api/v1/users/{user_id}"): _P.USERS_MANAGE,
    ("GET", "/api/v1/audit"): _P.AUDIT_READ,
    ("GET", "/api/v1/audit/export"): _P.AUDIT_READ,
    ("POST", "/api/v1/auth/login"): Anyone.AT_ALL,
    ("POST", "/api/v1/auth/refresh"): Anyone.AT_ALL,
    ("POST", "/api/v1/auth/logout"): Anyone.KNOWN,
    ("POST", "/api/v1/auth/password"): Anyone.KNOWN,
    ("GET", "/api/v1/auth/me"): Anyone.KNOWN,
    ("GET", "/api/v1/webhooks"): _P.WEBHOOKS_MANAGE,
    ("POST", "/api/v1/webhooks"): _P.WEBHOOKS_MANAGE,
    ("GET", _HOOK): _P.WEBHOOKS_MANAGE,
    ("PUT", _HOOK): _P.WEBHOOKS_MANAGE,
    ("DELETE", _HOOK): _P.WEBHOOKS_MANAGE,
    ("POST", f"{_HOOK}/rotate-secret"): _P.WEBHOOKS_MANAGE,
    ("POST", f"{_HOOK}/test"): _P.WEBHOOKS_MANAGE,
    ("GET", f"{_HOOK}/deliveries"): _P.WEBHOOKS_MANAGE,
    ("GET", f"{_HOOK}/deliveries/{{delivery_id}}"): _P.WEBHOOKS_MANAGE,
    ("POST", f"{_HOOK}/deliveries/{{delivery_id}}/redeliver"): _P.WEBHOOKS_MANAGE,
    ("POST", f"{_HOOK}/deliveries/redeliver"): _P.WEBHOOKS_MANAGE,
}
"""By method and path. A route that is not here is refused to all."""

_SERVICE = "/flightline.v1.CampaignService"
OF_METHOD: dict[str, Permission] = {
    f"{_SERVICE}/CreateCampaign": _P.CAMPAIGNS_WRITE,
    f"{_SERVICE}/GetCampaign": _P.CAMPAIGNS_READ,
    f"{_SERVICE}/ListCampaigns": _P.CAMPAIGNS_READ,
    f"{_SERVICE}/UpdateCampaign": _P.CAMPAIGNS_WRITE,
    f"{_SERVICE}/DeleteCampaign": _P.CAMPAIGNS_WRITE,
    f"{_SERVICE}/ActivateCampaign": _P.CAMPAIGNS_RUN,
    f"{_SERVICE}/PauseCampaign": _P.CAMPAIGNS_RUN,
    f"{_SERVICE}/StopCampaign": _P.CAMPAIGNS_RUN,
    f"{_SERVICE}/DuplicateCampaign": _P.CAMPAIGNS_WRITE,
    f"{_SERVICE}/GetCampaignMetrics": _P.CAMPAIGNS_READ,
    f"{_SERVICE}/StreamCampaignMetrics": _P.CAMPAIGNS_READ,
    f"{_SERVICE}/TrackEvent": _P.EVENTS_TRACK,
}
"""The same for gRPC."""


def of_roles(roles: Iterable[str]) -> frozenset[Permission]:
    """What these roles allow together; roles that nobody knows allow nothing."""
    known = {role.value: allowed for role, allowed in OF_ROLE.items()}
    return frozenset().union(*(known.get(role, frozenset()) for role in roles))
