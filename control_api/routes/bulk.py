"""/api/v1/campaigns/bulk"""

from typing import Any

import msgspec
from litestar import Controller, post
from litestar.status_codes import HTTP_200_OK, HTTP_204_NO_CONTENT, HTTP_207_MULTI_STATUS
from msgspec import UNSET

from control_api import metrics as counters
from control_api.handlers import transitions
from control_api.handlers.bulk import (
    BulkActivation,
    BulkPausing,
    BulkRequest,
    BulkStopping,
    Result,
    carry_out_all,
)
from control_api.handlers.transitions import Activation, Pausing, Step, Stopping
from control_api.routes.openapi import documented
from control_api.routes.problems import Problem, explain
from control_api.routes.request import ApiRequest
from control_api.routes.responses import JsonResponse
from control_api.routes.services import Services
from control_api.routes.transition_views import BulkResultView, BulkView
from control_api.routes.transitions import DryRun, is_dry_run, warnings_of
from control_api.routes.views import campaign_view

_DOCUMENTED = documented(example="bulk", parameters=DryRun)


_TOLD = "What became of each id."


class BulkRoutes(Controller):
    """One step of up to 1,000 campaigns: one result each, in the order of `ids`."""

    path = "/campaigns/bulk"
    tags = ("Bulk",)
    opt = {"reads_parameters": True}  # noqa: RUF012  Litestar reads it of the class

    @post(
        "/activate",
        operation_class=_DOCUMENTED,
        status_code=HTTP_207_MULTI_STATUS,
        response_description=_TOLD,
        summary="Activate many campaigns",
    )
    async def activate(
        self, request: ApiRequest, services: Services, data: BulkActivation
    ) -> JsonResponse[BulkView]:
        """Each as by activate. Waits once until all snapshots are published, 2 s at most."""
        asked = Activation(start_now=data.start_now, acknowledge_budget=data.acknowledge_budget)
        return await _answer(request, services, data, transitions.activation(asked))

    @post(
        "/pause",
        operation_class=_DOCUMENTED,
        status_code=HTTP_207_MULTI_STATUS,
        response_description=_TOLD,
        summary="Pause many campaigns",
    )
    async def pause(
        self, request: ApiRequest, services: Services, data: BulkPausing
    ) -> JsonResponse[BulkView]:
        """Each as by pause."""
        return await _answer(request, services, data, transitions.pausing(Pausing(data.justification)))

    @post(
        "/stop",
        operation_class=documented(example="bulk-stop", parameters=DryRun),
        status_code=HTTP_207_MULTI_STATUS,
        response_description=_TOLD,
        summary="Cancel many campaigns",
    )
    async def stop(
        self, request: ApiRequest, services: Services, data: BulkStopping
    ) -> JsonResponse[BulkView]:
        """Each as by stop, with one `justification` for all."""
        return await _answer(request, services, data, transitions.stopping(Stopping(data.justification)))

    @post(
        "/delete",
        operation_class=_DOCUMENTED,
        status_code=HTTP_207_MULTI_STATUS,
        response_description=_TOLD,
        summary="Delete many campaigns",
    )
    async def delete(
        self, request: ApiRequest, services: Services, data: BulkPausing
    ) -> JsonResponse[BulkView]:
        """Each as by DELETE; the status of one that was deleted is 204."""
        return await _answer(request, services, data, transitions.deletion(data.justification))


async def _answer(
    request: ApiRequest, services: Services, asked: BulkRequest, step: Step
) -> JsonResponse[BulkView]:
    results, published = await carry_out_all(
        services.store,
        request.user,
        asked,
        step,
        _explained,
        services.clock(),
        dry_run=is_dry_run(request),
    )
    if published is False:
        counters.PROPAGATION_PENDING.inc()
    views = [_result(result, services, published) for result in results]
    failed = sum(result.problem is not None for result in results)
    view = BulkView(views, len(views) - failed, failed)
    return JsonResponse(view, status_code=HTTP_207_MULTI_STATUS)


def _explained(refused: Exception, campaign_id: str) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(explain(refused, f"/api/v1/campaigns/{campaign_id}"))
    return told


def _result(result: Result, services: Services, published: bool | None) -> BulkResultView:
    if result.problem is not None:
        problem = msgspec.convert(result.problem, Problem)
        return BulkResultView(result.id, problem.status, UNSET, problem)
    campaign = result.campaign
    if campaign is None or campaign.deleted_at is not None:
        return BulkResultView(result.id, HTTP_204_NO_CONTENT)
    told = warnings_of(campaign)
    view = campaign_view(campaign, result.account, services.clock(), warnings=told, published=published)
    return BulkResultView(result.id, HTTP_200_OK, view)
