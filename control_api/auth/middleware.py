"""Every route under /api/v1 needs a valid Bearer token."""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from control_api.errors import Unauthorized
from control_api.handlers.actor import Actor

_SCHEME = "bearer"


class BearerAuthentication(AbstractAuthenticationMiddleware):
    """Makes the Actor of a request from its token; raises Unauthorized."""

    async def authenticate_request(
        self, connection: ASGIConnection[Any, Any, Any, Any]
    ) -> AuthenticationResult:
        """Called for each request, before its route."""
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() != _SCHEME or not token.strip():
            raise Unauthorized("send an Authorization header with a Bearer token")
        services = connection.app.state.services
        claims = services.tokens.verify(token.strip(), services.clock())
        actor = Actor(
            user_id=claims.sub,
            organization_id=claims.org,
            roles=claims.roles,
            correlation_id=connection.scope["state"].get("request_id"),
        )
        return AuthenticationResult(user=actor, auth=claims)
