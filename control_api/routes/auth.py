"""/api/v1/auth: login, refresh, logout, one's own password, and who one is."""

from litestar import Controller, get, post
from litestar.status_codes import HTTP_200_OK, HTTP_204_NO_CONTENT
from msgspec import UNSET

from control_api import metrics
from control_api.domain.snapshot import Cause
from control_api.errors import TooManyRequests, Unauthorized
from control_api.handlers import login, sessions
from control_api.handlers.login import NOBODY, LoginRequest, PasswordChange
from control_api.handlers.sessions import LoggedIn, LogoutRequest, RefreshRequest
from control_api.routes.access_views import MeView, TokensView, tokens_view
from control_api.routes.openapi import documented
from control_api.routes.request import ApiRequest
from control_api.routes.responses import JsonResponse
from control_api.routes.services import Services


class AuthRoutes(Controller):
    """Sessions of users who log in here with a password."""

    path = "/auth"
    tags = ("Authentication",)

    @post(
        "/login",
        operation_class=documented(example="login", anyone=True),
        status_code=HTTP_200_OK,
        summary="Log in",
    )
    async def log_in(
        self, request: ApiRequest, services: Services, data: LoginRequest
    ) -> JsonResponse[TokensView]:
        """Tokens for an email and a password. 401 does not tell which of them was wrong; 429 after too many
        attempts on one account, or from one address."""
        gate = services.access.gate
        try:
            given = await login.log_in(services.store, gate, data, _told(request), services.clock())
        except (Unauthorized, TooManyRequests) as error:
            refused = isinstance(error, Unauthorized)
            metrics.LOGINS.labels("refused" if refused else "throttled").inc()
            raise
        metrics.LOGINS.labels("logged in").inc()
        return _given(given)

    @post(
        "/refresh",
        operation_class=documented(example="refresh", anyone=True),
        status_code=HTTP_200_OK,
        summary="Get new tokens",
    )
    async def refresh(
        self, request: ApiRequest, services: Services, data: RefreshRequest
    ) -> JsonResponse[TokensView]:
        """Each refresh token is used once. Sent again because the answer was lost, it is answered again; sent
        again after its successor was used, it was stolen, and the session ends."""
        signer = services.access.gate.signer
        try:
            given = await sessions.refresh(services.store, signer, data, _told(request), services.clock())
        except Unauthorized:
            metrics.REFRESH_REFUSED.inc()
            raise
        return _given(given)

    @post("/logout", operation_class=documented(), status_code=HTTP_204_NO_CONTENT, summary="Log out")
    async def log_out(
        self, request: ApiRequest, services: Services, data: LogoutRequest | None = None
    ) -> None:
        """Ends the session of this token, or with `all` every session of the user."""
        asked = data or LogoutRequest()
        await sessions.log_out(services.store, request.user, asked, services.clock())
        services.access.standings.user_changed(request.user.user_id)

    @post(
        "/password",
        operation_class=documented(),
        status_code=HTTP_204_NO_CONTENT,
        summary="Change one's own password",
    )
    async def change_password(self, request: ApiRequest, services: Services, data: PasswordChange) -> None:
        """Needs the current one. All other sessions end."""
        gate = services.access.gate
        await login.change_password(services.store, gate, request.user, data, services.clock())
        services.access.standings.user_changed(request.user.user_id)

    @get("/me", operation_class=documented(), summary="Who am I")
    async def me(self, request: ApiRequest, services: Services) -> JsonResponse[MeView]:
        """The user and the organization that the token or the key speaks for."""
        actor = request.user
        user = await services.access.gate.directory.user(actor.organization_id, actor.user_id)
        view = MeView(
            id=actor.user_id,
            organization_id=actor.organization_id,
            roles=actor.roles,
            permissions=tuple(sorted(actor.permissions)),
            email=user.email if user else None,
            name=user.name if user else None,
            key_id=actor.key_id or UNSET,
        )
        return JsonResponse(view)


def _told(request: ApiRequest) -> Cause:
    """Somebody, from somewhere."""
    told = request.scope["state"]
    return Cause(NOBODY, told.get("request_id"), None, told.get("address"), told.get("traceparent"))


def _given(tokens: LoggedIn) -> JsonResponse[TokensView]:
    return JsonResponse(tokens_view(tokens), headers={"Cache-Control": "no-store"})
