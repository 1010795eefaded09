"""/api/v1/campaigns"""

from litestar import Controller, get, post, put
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED

from control_api.domain.metrics import Metrics, metrics_of
from control_api.domain.submission import Replacement, Submission
from control_api.handlers import campaigns
from control_api.handlers.change import Saved
from control_api.routes.headers import etag, next_link
from control_api.routes.list_parameters import ListParameters, list_query
from control_api.routes.openapi import documented
from control_api.routes.reading import read_parameters
from control_api.routes.request import ApiRequest, id_in_path, required_if_match_of
from control_api.routes.responses import JsonResponse
from control_api.routes.services import Services
from control_api.routes.views import CampaignView, PageView, campaign_view
from control_api.turns import in_turns

_OF = "/{campaign_id:str}"


class CampaignRoutes(Controller):
    """Campaigns of the caller's organization."""

    path = "/campaigns"
    tags = ("Campaigns",)

    @post("/", operation_class=documented(example="create"), summary="Create a campaign")
    async def create(
        self, request: ApiRequest, services: Services, data: Submission
    ) -> JsonResponse[CampaignView]:
        """A new DRAFT. The answer has its ETag and its address."""
        now = services.clock()
        saved = await campaigns.create(services.store, request.user, data, now, request.shape_errors)
        answer = _saved(saved, services, HTTP_201_CREATED)
        answer.headers["Location"] = f"/api/v1/campaigns/{saved.campaign.id}"
        return answer

    @get(
        "/",
        operation_class=documented(parameters=ListParameters),
        summary="List campaigns",
        opt={"reads_parameters": True},
    )
    async def list_page(self, request: ApiRequest, services: Services) -> JsonResponse[PageView]:
        """A page of campaigns; the next one is at the address in `Link`."""
        given = list(request.query_params.multi_items())
        query = list_query(read_parameters(ListParameters, given), request.user.organization_id)
        page = await campaigns.list_page(services.store, query)
        now = services.clock()
        items = await in_turns(lambda item: campaign_view(*item, now), page.items)
        return JsonResponse(PageView(items, page.next_cursor), headers=next_link(request, page.next_cursor))

    @get(_OF, operation_class=documented(), summary="Get a campaign")
    async def get_one(
        self, request: ApiRequest, services: Services, campaign_id: str
    ) -> JsonResponse[CampaignView]:
        """A campaign with its metrics; the ETag is its version."""
        campaign, account = await campaigns.get(services.store, request.user, id_in_path(campaign_id))
        view = campaign_view(campaign, account, services.clock())
        return JsonResponse(view, headers=etag(campaign.version))

    @put(
        _OF,
        operation_class=documented(example="replace", if_match="required"),
        summary="Replace a campaign's content",
    )
    async def replace(
        self, request: ApiRequest, services: Services, campaign_id: str, data: Replacement
    ) -> JsonResponse[CampaignView]:
        """Replaces the whole; needs If-Match. What only the service writes is ignored in the body."""
        version = required_if_match_of(request)
        saved = await campaigns.replace_content(
            services.store,
            request.user,
            id_in_path(campaign_id),
            data,
            version,
            services.clock(),
            request.shape_errors,
        )
        return _saved(saved, services, HTTP_200_OK)

    @get(f"{_OF}/metrics", operation_class=documented(), summary="Get a campaign's metrics")
    async def metrics(
        self, request: ApiRequest, services: Services, campaign_id: str
    ) -> JsonResponse[Metrics]:
        """Counts and money from the ledger, as of the last batch that was billed."""
        _, account = await campaigns.get(services.store, request.user, id_in_path(campaign_id))
        return JsonResponse(metrics_of(account))


def _saved(saved: Saved, services: Services, status: int) -> JsonResponse[CampaignView]:
    view = campaign_view(saved.campaign, saved.account, services.clock())
    return JsonResponse(view, status_code=status, headers=etag(saved.campaign.version))
