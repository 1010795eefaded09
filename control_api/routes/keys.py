"""/api/v1/api-keys"""

from litestar import Controller, delete, get, post
from litestar.status_codes import HTTP_201_CREATED, HTTP_204_NO_CONTENT

from control_api.domain.control_keys import (
    ApiKeyKind,
    ApiKeyRequest,
    StoredControlKey,
    check_door_scopes,
    door_request,
)
from control_api.domain.keys import StoredKey
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
from control_api.routes.headers import next_link
from control_api.routes.list_parameters import PageParameters
from control_api.routes.openapi import documented
from control_api.routes.reading import read_parameters
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

    @get(
        "/",
        operation_class=documented(parameters=PageParameters),
        summary="List keys",
        opt={"reads_parameters": True},
    )
    async def list_page(self, request: ApiRequest, services: Services) -> JsonResponse[ApiKeysView]:
        """In the order of their making, revoked ones too; the next page is at the address in `Link`."""
        asked = read_parameters(PageParameters, list(request.query_params.multi_items()))
        directory = services.access.gate.directory
        page = await keys.list_page(services.store, directory, request.user, asked.cursor, asked.limit)
        view = ApiKeysView([_view(key) for key in page.items], page.next_cursor)
        return JsonResponse(view, headers=next_link(request, page.next_cursor))

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


def _view(key: StoredKey | StoredControlKey) -> ApiKeyView:
    return door_key_view(key) if isinstance(key, StoredKey) else control_key_view(key)


async def _make(request: ApiRequest, services: Services, asked: ApiKeyRequest) -> tuple[ApiKeyView, str]:
    now = services.clock()
    if asked.kind is ApiKeyKind.CONTROL:
        own = await control_keys.make(services.store, request.user, asked, now)
        return control_key_view(own.key), own.clear
    if errors := tuple(check_door_scopes(asked)):
        raise InvalidRequest(errors)
    made = await keys.make(services.store, request.user, door_request(asked), now)
    return door_key_view(made.key), made.clear
