"""/api/v1/api-keys"""

from litestar import Controller, delete, get, post
from litestar.status_codes import HTTP_201_CREATED, HTTP_204_NO_CONTENT

from control_api.domain.control_keys import ApiKeyKind, ApiKeyRequest, check_door_scopes, door_request
from control_api.errors import InvalidRequest, NotFound
from control_api.handlers import control_keys, keys
from control_api.routes.access_views import (
    ApiKeysView,
    ApiKeyView,
    MadeApiKeyView,
    control_key_view,
    door_key_view,
    made_view,
)
from control_api.routes.openapi import documented
from control_api.routes.request import ApiRequest, id_in_path
from control_api.routes.responses import JsonResponse
from control_api.routes.services import Services


class KeyRoutes(Controller):
    """Keys for the door (publishable ones for pages and apps, server keys for back ends), and control keys
    for this API."""

    path = "/api-keys"
    tags = ("Access keys",)

    @post("/", operation_class=documented(example="key"), summary="Make a key")
    async def make(
        self, request: ApiRequest, services: Services, data: ApiKeyRequest
    ) -> JsonResponse[MadeApiKeyView]:
        """The key's text is in this answer and nowhere else. A control key may no more than who makes it."""
        view, clear = await _make(request, services, data)
        return JsonResponse(
            made_view(view, clear),
            status_code=HTTP_201_CREATED,
            headers={"Location": f"/api/v1/api-keys/{view.id}", "Cache-Control": "no-store"},
        )

    @get("/", operation_class=documented(), summary="List keys")
    async def list_all(self, request: ApiRequest, services: Services) -> JsonResponse[ApiKeysView]:
        """All keys of the organization, revoked ones too."""
        organization_id = request.user.organization_id
        of_doors = await services.store.keys(organization_id)
        own = await services.access.gate.directory.control_keys(organization_id)
        views = [*map(door_key_view, of_doors), *map(control_key_view, own)]
        return JsonResponse(ApiKeysView(sorted(views, key=lambda view: view.id)))

    @delete(
        "/{key_id:str}",
        operation_class=documented(),
        status_code=HTTP_204_NO_CONTENT,
        summary="Revoke a key",
    )
    async def revoke(self, request: ApiRequest, services: Services, key_id: str) -> None:
        """The doors refuse it within a second, this API within three."""
        identity, now = id_in_path(key_id), services.clock()
        try:
            await control_keys.revoke(services.store, request.user, identity, now)
        except NotFound:
            await keys.revoke(services.store, request.user, identity, now)
        services.access.standings.key_changed()


async def _make(request: ApiRequest, services: Services, asked: ApiKeyRequest) -> tuple[ApiKeyView, str]:
    now = services.clock()
    if asked.kind is ApiKeyKind.CONTROL:
        own = await control_keys.make(services.store, request.user, asked, now)
        return control_key_view(own.key), own.clear
    if errors := tuple(check_door_scopes(asked)):
        raise InvalidRequest(errors)
    made = await keys.make(services.store, request.user, door_request(asked), now)
    return door_key_view(made.key), made.clear
