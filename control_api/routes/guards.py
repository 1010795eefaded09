"""What every route under /api/v1 is held to.

Guards are coroutines because Litestar runs plain functions in threads, which takes longer than all they do.
"""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.enums import HttpMethod
from litestar.handlers import BaseRouteHandler

from control_api.domain.permissions import OF_ROUTE, Anyone
from control_api.domain.refusals import FieldError
from control_api.errors import Forbidden, MalformedRequest


async def require_permission(connection: ASGIConnection, _handler: BaseRouteHandler) -> None:  # type: ignore[type-arg]
    """Holds every route to the table of permissions; what is not in it is refused to all."""
    scope: Any = connection.scope
    if scope["method"] == HttpMethod.OPTIONS:
        return
    route = (scope["method"], scope["path_template"])
    if route not in OF_ROUTE:
        raise Forbidden("nobody may do this")
    needed = OF_ROUTE[route]
    if not isinstance(needed, Anyone):
        connection.user.require(needed)


async def refuse_unknown_parameters(connection: ASGIConnection, handler: BaseRouteHandler) -> None:  # type: ignore[type-arg]
    """A route that reads no query parameters has none: a misspelt one is not passed over."""
    if not handler.opt.get("reads_parameters") and connection.query_params:
        errors = [FieldError(name, "unknown parameter") for name in connection.query_params]
        raise MalformedRequest("this resource has no query parameters", errors)
