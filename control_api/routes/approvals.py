"""/api/v1/campaigns/{id}/approvals and /api/v1/approvals"""

from typing import Annotated

import msgspec
from litestar import Controller, get, post
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED

from control_api.domain.approval import ApprovalState
from control_api.errors import MalformedRequest
from control_api.handlers import approvals
from control_api.handlers.approvals import ApprovalQuery, Asking, Deciding
from control_api.routes.headers import next_link
from control_api.routes.openapi import documented
from control_api.routes.reading import read_parameters
from control_api.routes.request import ApiRequest, id_in_path, if_match_of
from control_api.routes.responses import JsonResponse
from control_api.routes.services import Services
from control_api.routes.transition_views import ApprovalsView, ApprovalView, approval_view
from schemas.ids import canonical_uuid

_MOST = 1_000
_OF = "/campaigns/{campaign_id:str}/approvals"


class ApprovalParameters(msgspec.Struct, frozen=True):
    """Repeated states are alternatives; all of them without one."""

    state: tuple[ApprovalState, ...] = ()
    limit: Annotated[int, msgspec.Meta(ge=1, le=_MOST, description=f"1 to {_MOST}.")] = 50
    cursor: Annotated[str, msgspec.Meta(max_length=100)] | None = None


class ApprovalRoutes(Controller):
    """Budgets above the organization's threshold, and who may spend them."""

    path = "/"
    tags = ("Approvals",)

    @post(
        _OF,
        operation_class=documented(example="comment", if_match="optional"),
        status_code=HTTP_201_CREATED,
        summary="Ask for approval of a budget",
    )
    async def ask(
        self, request: ApiRequest, services: Services, campaign_id: str, data: Asking | None = None
    ) -> JsonResponse[ApprovalView]:
        """For the pendingBudget, or for the budget of a DRAFT. Any change of that budget withdraws it."""
        campaign, asking = id_in_path(campaign_id), data or Asking()
        now, if_match = services.clock(), if_match_of(request)
        approval = await approvals.ask(services.store, request.user, campaign, asking, if_match, now)
        address = f"/api/v1/campaigns/{campaign}/approvals"
        view = approval_view(approval)
        return JsonResponse(view, status_code=HTTP_201_CREATED, headers={"Location": address})

    @get(
        _OF,
        operation_class=documented(parameters=ApprovalParameters),
        summary="List a campaign's approvals",
        opt={"reads_parameters": True},
    )
    async def of_campaign(
        self, request: ApiRequest, services: Services, campaign_id: str
    ) -> JsonResponse[ApprovalsView]:
        """A page, the newest first; the next one is at the address in `Link`."""
        return await _page(request, services, id_in_path(campaign_id))

    @post(
        f"{_OF}/{{approval_id:str}}/approve",
        operation_class=documented(example="comment", if_match="optional"),
        status_code=HTTP_200_OK,
        summary="Approve a budget",
    )
    async def approve(
        self,
        request: ApiRequest,
        services: Services,
        campaign_id: str,
        approval_id: str,
        data: Deciding | None = None,
    ) -> JsonResponse[ApprovalView]:
        """A pendingBudget becomes the budget, a DRAFT may go. Not by who asked or changed the budget last."""
        return await _decide(request, services, (campaign_id, approval_id), ApprovalState.APPROVED, data)

    @post(
        f"{_OF}/{{approval_id:str}}/reject",
        operation_class=documented(example="comment", if_match="optional"),
        status_code=HTTP_200_OK,
        summary="Reject a budget",
    )
    async def reject(
        self,
        request: ApiRequest,
        services: Services,
        campaign_id: str,
        approval_id: str,
        data: Deciding | None = None,
    ) -> JsonResponse[ApprovalView]:
        """A pendingBudget is given up, a DRAFT stays. Not by who asked or changed the budget last."""
        return await _decide(request, services, (campaign_id, approval_id), ApprovalState.REJECTED, data)

    @get(
        "/approvals",
        operation_class=documented(parameters=ApprovalParameters),
        summary="List the organization's approvals",
        opt={"reads_parameters": True},
    )
    async def page(self, request: ApiRequest, services: Services) -> JsonResponse[ApprovalsView]:
        """A page, the newest first; the next one is at the address in `Link`."""
        return await _page(request, services)


async def _page(
    request: ApiRequest, services: Services, campaign_id: str | None = None
) -> JsonResponse[ApprovalsView]:
    given = read_parameters(ApprovalParameters, list(request.query_params.multi_items()))
    after = canonical_uuid(given.cursor) if given.cursor is not None else None
    if given.cursor is not None and after is None:
        raise MalformedRequest("cursor is not one of this list's")
    query = ApprovalQuery(
        organization_id=request.user.organization_id,
        campaign_id=campaign_id,
        states=[state.value for state in given.state] or None,
        after=after,
        page_size=given.limit,
    )
    found, cursor = await approvals.page(services.store, query)
    view = ApprovalsView([approval_view(approval) for approval in found], cursor)
    return JsonResponse(view, headers=next_link(request, cursor))


async def _decide(
    request: ApiRequest,
    services: Services,
    ids: tuple[str, str],
    state: ApprovalState,
    data: Deciding | None,
) -> JsonResponse[ApprovalView]:
    campaign_id, approval_id = map(id_in_path, ids)
    decided = await approvals.decide(
        services.store,
        request.user,
        campaign_id,
        approval_id,
        state,
        data or Deciding(),
        if_match_of(request),
        services.clock(),
    )
    return JsonResponse(approval_view(decided))
