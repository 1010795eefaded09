"""/api/v1/api-keys"""

from litestar import Controller, delete, get, post
from litestar.status_codes import HTTP_201_CREATED, HTTP_204_NO_CONTENT

from control_api.domain.keys import KeyRequest
from control_api.handlers import keys
from control_api.routes.openapi import documented
from control_api.routes.request import ApiRequest, id_in_path
from control_api.routes.responses import JsonResponse
from control_api.routes.services import Services
from control_api.routes.views import KeysView, MadeKeyView, key_view, made_key_view


class KeyRoutes(Controller):
    """Keys for the door: publishable ones for pages and apps, server keys for back ends."""

    path = "/api-keys"
    tags = ("Access keys",)

    @post("/", operation_class=documented(example="key"), summary="Make an access key")
    async def make(
        self, request: ApiRequest, services: Services, data: KeyRequest
    ) -> JsonResponse[MadeKeyView]:
        """The key's text is in this answer and nowhere else."""
        made = await keys.make(services.store, request.user, data, services.clock())
        return JsonResponse(
            made_key_view(made.key, made.clear),
            status_code=HTTP_201_CREATED,
            headers={"Location": f"/api/v1/api-keys/{made.key.id}", "Cache-Control": "no-store"},
        )

    @get("/", operation_class=documented(), summary="List access keys")
    async def list_all(self, request: ApiRequest, services: Services) -> JsonResponse[KeysView]:
        """All keys of the organization, revoked ones too."""
        found = await services.store.keys(request.user.organization_id)
        return JsonResponse(KeysView([key_view(key) for key in found]))

    @delete(
        "/{key_id:str}",
        operation_class=documented(),
        status_code=HTTP_204_NO_CONTENT,
        summary="Revoke an access key",
    )
    async def revoke(self, request: ApiRequest, services: Services, key_id: str) -> None:
        """The doors refuse it within a second."""
        await keys.revoke(services.store, request.user, id_in_path(key_id), services.clock())
