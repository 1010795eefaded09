"""/api/v1/campaigns"""

from typing import Any
from urllib.parse import urlencode

from litestar import Controller, delete, get, post, put
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED, HTTP_204_NO_CONTENT

from control_api import metrics as counters
from control_api.domain import lifecycle
from control_api.domain.metrics import Metrics, metrics_of
from control_api.domain.refusals import FieldError
from control_api.domain.submission import Replacement, Submission
from control_api.errors import InvalidRequest
from control_api.handlers import campaigns, transitions
from control_api.handlers.change import Saved
from control_api.handlers.transitions import Activation, Pausing, Stopping, Transitioned
from control_api.routes.list_parameters import ListParameters, list_query
from control_api.routes.openapi import documented
from control_api.routes.reading import read_parameters
from control_api.routes.request import ApiRequest, id_in_path, if_match_of, required_if_match_of
from control_api.routes.responses import JsonResponse
from control_api.routes.services import Services
from control_api.routes.views import CampaignView, PageView, campaign_view

_OF = "/{campaign_id:str}"


class CampaignRoutes(Controller):
    """Campaigns of the caller's organization, and their lifecycle."""

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
        items = [
            campaign_view(campaign, account if query.with_metrics else None, now)
            for campaign, account in page.items
        ]
        return JsonResponse(PageView(items, page.next_cursor), headers=_link(request, page.next_cursor))

    @get(_OF, operation_class=documented(), summary="Get a campaign")
    async def get_one(
        self, request: ApiRequest, services: Services, campaign_id: str
    ) -> JsonResponse[CampaignView]:
        """A campaign with its metrics; the ETag is its version."""
        campaign, account = await campaigns.get(services.store, request.user, id_in_path(campaign_id))
        view = campaign_view(campaign, account, services.clock())
        return JsonResponse(view, headers=_etag(campaign.version))

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

    @delete(
        _OF,
        operation_class=documented(if_match="optional"),
        status_code=HTTP_204_NO_CONTENT,
        summary="Delete a campaign",
    )
    async def delete(self, request: ApiRequest, services: Services, campaign_id: str) -> None:
        """Only without recorded events, and not while ACTIVE."""
        await campaigns.delete(
            services.store,
            request.user,
            id_in_path(campaign_id),
            if_match_of(request),
            services.clock(),
        )

    @post(
        f"{_OF}/activate",
        operation_class=documented(if_match="optional"),
        status_code=HTTP_200_OK,
        summary="Activate a campaign",
    )
    async def activate(
        self, request: ApiRequest, services: Services, campaign_id: str, data: Activation | None = None
    ) -> JsonResponse[CampaignView]:
        """DRAFT or PAUSED to ACTIVE. Answers when the doors' snapshot is published, after 2 s at most."""
        moved = await transitions.activate(
            services.store,
            request.user,
            id_in_path(campaign_id),
            data or Activation(),
            if_match_of(request),
            services.clock(),
        )
        return _moved(moved, services, lifecycle.warnings(moved.campaign))

    @post(
        f"{_OF}/pause",
        operation_class=documented(if_match="optional"),
        status_code=HTTP_200_OK,
        summary="Pause a campaign",
    )
    async def pause(
        self, request: ApiRequest, services: Services, campaign_id: str, data: Pausing | None = None
    ) -> JsonResponse[CampaignView]:
        """ACTIVE to PAUSED."""
        moved = await transitions.pause(
            services.store,
            request.user,
            id_in_path(campaign_id),
            data or Pausing(),
            if_match_of(request),
            services.clock(),
        )
        return _moved(moved, services)

    @post(
        f"{_OF}/stop",
        operation_class=documented(if_match="optional"),
        status_code=HTTP_200_OK,
        summary="Cancel a campaign",
    )
    async def stop(
        self, request: ApiRequest, services: Services, campaign_id: str, data: Stopping | None = None
    ) -> JsonResponse[CampaignView]:
        """To CANCELLED, for good; needs a `justification`."""
        if data is None:
            raise InvalidRequest([FieldError("/justification", "is required")])
        moved = await transitions.stop(
            services.store,
            request.user,
            id_in_path(campaign_id),
            data,
            if_match_of(request),
            services.clock(),
        )
        return _moved(moved, services)

    @get(f"{_OF}/metrics", operation_class=documented(), summary="Get a campaign's metrics")
    async def metrics(
        self, request: ApiRequest, services: Services, campaign_id: str
    ) -> JsonResponse[Metrics]:
        """Counts and money from the ledger, as of the last batch that was billed."""
        _, account = await campaigns.get(services.store, request.user, id_in_path(campaign_id))
        return JsonResponse(metrics_of(account))


def _saved(saved: Saved, services: Services, status: int) -> JsonResponse[CampaignView]:
    view = campaign_view(saved.campaign, saved.account, services.clock())
    return JsonResponse(view, status_code=status, headers=_etag(saved.campaign.version))


def _moved(
    moved: Transitioned, services: Services, warnings: tuple[str, ...] = ()
) -> JsonResponse[CampaignView]:
    if not moved.published:
        counters.PROPAGATION_PENDING.inc()
    view = campaign_view(
        moved.campaign, moved.account, services.clock(), warnings=warnings, published=moved.published
    )
    return JsonResponse(view, headers=_etag(moved.campaign.version))


def _etag(version: int) -> dict[str, str]:
    return {"ETag": f'"{version}"'}


def _link(request: ApiRequest, cursor: str | None) -> dict[str, str]:
    if cursor is None:
        return {}
    kept: list[tuple[str, Any]] = [pair for pair in request.query_params.multi_items() if pair[0] != "cursor"]
    return {"Link": f'<{request.url.path}?{urlencode([*kept, ("cursor", cursor)])}>; rel="next"'}
