"""Every route under /api/v1 needs a valid token or key, but for those that the table opens to anyone."""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from control_api.auth.authenticator import Credentials, Told
from control_api.auth.rates import Taken
from control_api.domain.permissions import OF_ROUTE, Anyone


class Authentication(AbstractAuthenticationMiddleware):
    """Makes the Actor of a request. Raises Unauthorized, MalformedRequest, TooManyRequests."""

    async def authenticate_request(
        self, connection: ASGIConnection[Any, Any, Any, Any]
    ) -> AuthenticationResult:
        """Called for each request, before its route."""
        services = connection.app.state.services
        entrance, told = services.access.entrance, connection.scope["state"]

        def tell(taken: Taken) -> None:
            told["rate"] = taken

        route = (connection.scope["method"], connection.scope["path_template"])  # type: ignore[typeddict-item]
        if OF_ROUTE.get(route) is Anyone.AT_ALL:
            entrance.unknown(told.get("address"), tell)
            return AuthenticationResult(user=None, auth=None)
        given = Credentials(
            connection.headers.getall("authorization", []), connection.headers.getall("x-api-key", [])
        )
        about = Told(told.get("request_id"), told.get("traceparent"), told.get("address"))
        actor = await entrance.actor(given, about, services.clock(), tell)
        return AuthenticationResult(user=actor, auth=None)
