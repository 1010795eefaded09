"""Who asks."""

import msgspec

from control_api.domain.snapshot import Cause
from control_api.errors import Forbidden

ADMIN = "admin"


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """The user of a valid token, and the request's correlation id."""

    user_id: str
    organization_id: str
    roles: tuple[str, ...]
    correlation_id: str | None = None

    def cause(self, justification: str | None = None) -> Cause:
        """The actor as a domain event names it."""
        return Cause(self.user_id, self.correlation_id, justification)

    def require(self, role: str) -> None:
        """Raises Forbidden unless the actor has the role."""
        if role not in self.roles:
            raise Forbidden(f"this needs the role {role}")
