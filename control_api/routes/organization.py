"""/api/v1/organization"""

from litestar import Controller, get, put

from control_api.handlers import organization
from control_api.handlers.organization import OrganizationRequest
from control_api.routes.headers import etag
from control_api.routes.openapi import documented
from control_api.routes.request import ApiRequest, required_if_match_of
from control_api.routes.responses import JsonResponse
from control_api.routes.services import Services
from control_api.routes.views import OrganizationView, organization_view


class OrganizationRoutes(Controller):
    """The caller's organization."""

    path = "/organization"
    tags = ("Organization",)

    @get("/", operation_class=documented(), summary="Get the organization")
    async def get_one(self, request: ApiRequest, services: Services) -> JsonResponse[OrganizationView]:
        """Time zone, limits and approval thresholds per currency."""
        found = await organization.get(services.store, request.user)
        return JsonResponse(organization_view(found), headers=etag(found.version))

    @put("/", operation_class=documented(if_match="required"), summary="Change the organization")
    async def replace(
        self, request: ApiRequest, services: Services, data: OrganizationRequest
    ) -> JsonResponse[OrganizationView]:
        """Needs the role admin, and If-Match."""
        version = required_if_match_of(request)
        changed = await organization.replace(services.store, request.user, data, version, services.clock())
        return JsonResponse(organization_view(changed), headers=etag(changed.version))
