"""/api/v1/campaigns/{id}/activate and the other steps of its life; `dryRun` tries each of them."""

from collections.abc import Awaitable
from typing import Annotated

import msgspec
from litestar import Controller, delete, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED, HTTP_204_NO_CONTENT

from control_api import metrics as counters
from control_api.domain import lifecycle
from control_api.domain.campaign import Campaign
from control_api.domain.duplication import Duplication
from control_api.domain.refusals import FieldError, Refusal
from control_api.errors import InvalidRequest
from control_api.handlers import transitions
from control_api.handlers.change import Saved
from control_api.handlers.duplicates import duplicate
from control_api.handlers.transitions import Activation, Pausing, Step, Stopping, Transitioned
from control_api.routes.headers import etag
from control_api.routes.openapi import documented
from control_api.routes.problems import explain
from control_api.routes.reading import read_parameters
from control_api.routes.request import ApiRequest, id_in_path, if_match_of
from control_api.routes.responses import JsonResponse
from control_api.routes.services import Services
from control_api.routes.transition_views import PreviewView
from control_api.routes.views import CampaignView, campaign_view
from schemas.reasons import CampaignStatus

_OF = "/{campaign_id:str}"
_DRY_RUN = "Only says what would happen, or why it would not; nothing is changed."


class DryRun(msgspec.Struct, frozen=True, rename="camel"):
    """The query parameter of all transitions."""

    dry_run: Annotated[bool, msgspec.Meta(description=_DRY_RUN)] = False


TransitionResponse = JsonResponse[CampaignView | PreviewView]


class TransitionRoutes(Controller):
    """The lifecycle of a campaign."""

    path = "/campaigns"
    tags = ("Lifecycle",)
    opt = {"reads_parameters": True}  # noqa: RUF012  Litestar reads it of the class

    @post(
        f"{_OF}/activate",
        operation_class=documented(if_match="optional", parameters=DryRun),
        status_code=HTTP_200_OK,
        summary="Activate a campaign",
    )
    async def activate(
        self, request: ApiRequest, services: Services, campaign_id: str, data: Activation | None = None
    ) -> TransitionResponse:
        """DRAFT or PAUSED to ACTIVE. Answers when the doors' snapshot is published, after 2 s at most."""
        step = transitions.activation(data or Activation())
        return await _step(request, services, campaign_id, step)

    @post(
        f"{_OF}/pause",
        operation_class=documented(if_match="optional", parameters=DryRun),
        status_code=HTTP_200_OK,
        summary="Pause a campaign",
    )
    async def pause(
        self, request: ApiRequest, services: Services, campaign_id: str, data: Pausing | None = None
    ) -> TransitionResponse:
        """ACTIVE to PAUSED."""
        return await _step(request, services, campaign_id, transitions.pausing(data or Pausing()))

    @post(
        f"{_OF}/stop",
        operation_class=documented(if_match="optional", parameters=DryRun, needs_body=True),
        status_code=HTTP_200_OK,
        summary="Cancel a campaign",
    )
    async def stop(
        self, request: ApiRequest, services: Services, campaign_id: str, data: Stopping | None = None
    ) -> TransitionResponse:
        """To CANCELLED, for good; needs a `justification`."""
        if data is None:
            raise InvalidRequest([FieldError("/justification", "is required")])
        return await _step(request, services, campaign_id, transitions.stopping(data))

    @post(
        f"{_OF}/duplicate",
        operation_class=documented(example="duplicate", parameters=DryRun),
        status_code=HTTP_201_CREATED,
        responses={HTTP_200_OK: ResponseSpec(PreviewView, description="What a dry run has found.")},
        summary="Duplicate a campaign",
    )
    async def duplicate(
        self, request: ApiRequest, services: Services, campaign_id: str, data: Duplication | None = None
    ) -> TransitionResponse:
        """A new DRAFT "NAME (copy)" without metrics, which starts in the future and runs for as long."""
        dry_run, now = is_dry_run(request), services.clock()
        asked, source = data or Duplication(), id_in_path(campaign_id)
        copying = duplicate(services.store, request.user, source, asked, now, dry_run=dry_run)
        if dry_run:
            return JsonResponse(await _preview(copying, services), status_code=HTTP_200_OK)
        saved = await copying
        address = {"Location": f"/api/v1/campaigns/{saved.campaign.id}"}
        view = campaign_view(saved.campaign, saved.account, services.clock())
        return JsonResponse(
            view, status_code=HTTP_201_CREATED, headers=etag(saved.campaign.version) | address
        )

    @delete(
        _OF,
        operation_class=documented(if_match="optional", parameters=DryRun),
        status_code=HTTP_200_OK,
        responses={HTTP_204_NO_CONTENT: ResponseSpec(None, description="The campaign is gone.")},
        summary="Delete a campaign",
    )
    async def delete(
        self, request: ApiRequest, services: Services, campaign_id: str
    ) -> JsonResponse[PreviewView | None]:
        """Only without recorded events, and not while ACTIVE. With `dryRun` the answer is 200 with a body."""
        campaign, if_match, now = id_in_path(campaign_id), if_match_of(request), services.clock()
        if is_dry_run(request):
            step = transitions.deletion()
            trying = transitions.preview(services.store, request.user, campaign, step, if_match, now)
            return JsonResponse(await _preview(trying, services))
        await transitions.delete(services.store, request.user, campaign, if_match, now)
        return JsonResponse(None, status_code=HTTP_204_NO_CONTENT)


def is_dry_run(request: ApiRequest) -> bool:
    """Whether the request has `dryRun=true`. Raises MalformedRequest."""
    return read_parameters(DryRun, list(request.query_params.multi_items())).dry_run


async def _step(request: ApiRequest, services: Services, campaign_id: str, step: Step) -> TransitionResponse:
    asked = (
        services.store,
        request.user,
        id_in_path(campaign_id),
        step,
        if_match_of(request),
        services.clock(),
    )
    if is_dry_run(request):
        return JsonResponse(await _preview(transitions.preview(*asked), services))
    return _moved(await transitions.carry_out(*asked), services)


async def _preview(trying: Awaitable[Saved], services: Services) -> PreviewView:
    """What is wrong with the request itself (404, 412, 422 of a body) is answered as ever."""
    try:
        saved = await trying
    except Refusal as refusal:
        return PreviewView(possible=False, problem=explain(refusal))
    told = warnings_of(saved.campaign)
    view = campaign_view(saved.campaign, saved.account, services.clock(), warnings=told)
    return PreviewView(possible=True, campaign=view)


def _moved(moved: Transitioned, services: Services) -> TransitionResponse:
    if not moved.published:
        counters.PROPAGATION_PENDING.inc()
    view = campaign_view(
        moved.campaign,
        moved.account,
        services.clock(),
        warnings=warnings_of(moved.campaign),
        published=moved.published,
    )
    return JsonResponse(view, headers=etag(moved.campaign.version))


def warnings_of(campaign: Campaign) -> tuple[str, ...]:
    """What whoever activates a campaign should know."""
    return lifecycle.warnings(campaign) if campaign.status is CampaignStatus.ACTIVE else ()
