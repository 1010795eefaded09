"""Who asks."""

from datetime import datetime

import msgspec

from control_api.domain.permissions import Permission
from control_api.domain.snapshot import Cause
from control_api.errors import Forbidden


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who a request comes from: a user by a token, or a key (`key_id`) that somebody made (`user_id`).

    `permissions` is what the user's roles or the key's scopes allow. `session_id` is of a login of ours.
    `address` is a keyed hash of where the request came from; the address itself is kept nowhere.
    """

    user_id: str
    organization_id: str
    roles: tuple[str, ...] = ()
    permissions: frozenset[Permission] = frozenset()
    key_id: str | None = None
    session_id: str | None = None
    correlation_id: str | None = None
    traceparent: str | None = None
    address: str | None = None
    expires_at: datetime | None = None
    """Until when the token or the key is valid, if that ends."""

    @property
    def name(self) -> str:
        """As audit log and domain events name it."""
        return f"key:{self.key_id}" if self.key_id else self.user_id

    def cause(self, justification: str | None = None) -> Cause:
        """The actor as the reason of a change."""
        return Cause(self.name, self.correlation_id, justification, self.address, self.traceparent)

    def require(self, permission: Permission) -> None:
        """Raises Forbidden unless the actor may do this."""
        if permission not in self.permissions:
            raise Forbidden(f"this needs the permission {permission}")
