"""/api/v1/webhooks"""

from typing import Annotated

import msgspec
from litestar import Controller, delete, get, post, put
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED, HTTP_202_ACCEPTED, HTTP_204_NO_CONTENT

from control_api.domain.deliveries import DeliveryState
from control_api.domain.webhooks import Rotation, WebhookReplacement, WebhookRequest
from control_api.errors import MalformedRequest
from control_api.handlers import deliveries, webhooks
from control_api.handlers.webhooks import MadeWebhook
from control_api.routes.headers import etag, next_link
from control_api.routes.openapi import documented
from control_api.routes.reading import read_parameters
from control_api.routes.request import ApiRequest, id_in_path, if_match_of, required_if_match_of
from control_api.routes.responses import JsonResponse
from control_api.routes.services import Services
from control_api.routes.webhooks_views import (
    DeliveriesView,
    DeliveryDetailView,
    DeliveryView,
    MadeWebhookView,
    RedeliveredView,
    WebhooksView,
    WebhookView,
    delivery_detail_view,
    delivery_view,
    made_webhook_view,
    webhook_view,
)
from schemas.ids import canonical_uuid

_OF = "/{webhook_id:str}"
_MOST = 200
_ID = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_CURSOR = "`nextCursor` of the page before."


class DeliveryParameters(msgspec.Struct, frozen=True, rename="camel"):
    """Repeated states are alternatives."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=_MOST, description=f"1 to {_MOST}.")] = 50
    cursor: Annotated[
        Annotated[str, msgspec.Meta(pattern=_ID, max_length=36)] | None, msgspec.Meta(description=_CURSOR)
    ] = None
    state: tuple[DeliveryState, ...] = ()


class WebhookRoutes(Controller):
    """Subscribers of the organization's domain events (Standard Webhooks), and deliveries to them."""

    path = "/webhooks"
    tags = ("Webhooks",)

    @post("/", operation_class=documented(example="webhook"), summary="Make a webhook")
    async def make(
        self, request: ApiRequest, services: Services, data: WebhookRequest
    ) -> JsonResponse[MadeWebhookView]:
        """It gets what happens from now on. Its secret is in this answer and nowhere else."""
        made = await webhooks.make(
            services.store,
            services.webhook_secrets,
            request.user,
            data,
            services.clock(),
            private=services.webhooks_private,
        )
        answer = _made(made, services, HTTP_201_CREATED)
        answer.headers["Location"] = f"/api/v1/webhooks/{made.webhook.id}"
        return answer

    @get("/", operation_class=documented(), summary="List webhooks")
    async def list_all(self, request: ApiRequest, services: Services) -> JsonResponse[WebhooksView]:
        """All webhooks of the organization."""
        found, now = await webhooks.list_all(services.store, request.user), services.clock()
        return JsonResponse(WebhooksView([webhook_view(webhook, now) for webhook in found]))

    @get(_OF, operation_class=documented(), summary="Get a webhook")
    async def get_one(
        self, request: ApiRequest, services: Services, webhook_id: str
    ) -> JsonResponse[WebhookView]:
        """A webhook without its secret; the ETag is its version."""
        found = await webhooks.get(services.store, request.user, id_in_path(webhook_id))
        return JsonResponse(webhook_view(found, services.clock()), headers=etag(found.version))

    @put(_OF, operation_class=documented(example="webhook", if_match="required"), summary="Change a webhook")
    async def replace(
        self, request: ApiRequest, services: Services, webhook_id: str, data: WebhookReplacement
    ) -> JsonResponse[WebhookView]:
        """Needs If-Match. What waits for a webhook that becomes inactive becomes dead letters."""
        changed = await webhooks.replace(
            services.store,
            request.user,
            id_in_path(webhook_id),
            data,
            required_if_match_of(request),
            services.clock(),
            private=services.webhooks_private,
        )
        return JsonResponse(webhook_view(changed, services.clock()), headers=etag(changed.version))

    @delete(
        _OF,
        operation_class=documented(if_match="optional"),
        status_code=HTTP_204_NO_CONTENT,
        summary="Delete a webhook",
    )
    async def delete(self, request: ApiRequest, services: Services, webhook_id: str) -> None:
        """Nothing more is sent to it."""
        await webhooks.delete(
            services.store, request.user, id_in_path(webhook_id), if_match_of(request), services.clock()
        )

    @post(
        f"{_OF}/rotate-secret",
        operation_class=documented(),
        status_code=HTTP_200_OK,
        summary="Make a new secret",
    )
    async def rotate(
        self, request: ApiRequest, services: Services, webhook_id: str, data: Rotation | None = None
    ) -> JsonResponse[MadeWebhookView]:
        """Deliveries are signed with both secrets for `overlapHours`."""
        made = await webhooks.rotate(
            services.store,
            services.webhook_secrets,
            request.user,
            id_in_path(webhook_id),
            data or Rotation(),
            services.clock(),
        )
        return _made(made, services, HTTP_200_OK)

    @post(
        f"{_OF}/test",
        operation_class=documented(),
        status_code=HTTP_202_ACCEPTED,
        summary="Send a test event",
    )
    async def test(
        self, request: ApiRequest, services: Services, webhook_id: str
    ) -> JsonResponse[DeliveryView]:
        """An event of the type `flightline.webhook.test`; its delivery tells what came of it."""
        delivery = await deliveries.send_test(
            services.store, request.user, id_in_path(webhook_id), services.clock()
        )
        return _accepted(delivery_view(delivery))

    @get(
        f"{_OF}/deliveries",
        operation_class=documented(parameters=DeliveryParameters),
        summary="List deliveries",
        opt={"reads_parameters": True},
    )
    async def list_deliveries(
        self, request: ApiRequest, services: Services, webhook_id: str
    ) -> JsonResponse[DeliveriesView]:
        """A page of deliveries of the last 30 days, the newest first; `state=DEAD` are the dead letters."""
        asked = read_parameters(DeliveryParameters, list(request.query_params.multi_items()))
        page = await deliveries.page(
            services.store,
            request.user,
            id_in_path(webhook_id),
            states=[state.value for state in asked.state] or None,
            before=_position(asked.cursor),
            most=asked.limit,
        )
        cursor = page.items[-1].id if page.more else None
        view = DeliveriesView([delivery_view(delivery) for delivery in page.items], cursor)
        return JsonResponse(view, headers=next_link(request, cursor))

    @get(f"{_OF}/deliveries/{{delivery_id:str}}", operation_class=documented(), summary="Get a delivery")
    async def get_delivery(
        self, request: ApiRequest, services: Services, webhook_id: str, delivery_id: str
    ) -> JsonResponse[DeliveryDetailView]:
        """A delivery with its event."""
        delivery = await deliveries.get(
            services.store, request.user, id_in_path(webhook_id), id_in_path(delivery_id)
        )
        return JsonResponse(delivery_detail_view(delivery))

    @post(
        f"{_OF}/deliveries/{{delivery_id:str}}/redeliver",
        operation_class=documented(),
        status_code=HTTP_202_ACCEPTED,
        summary="Send a delivery again",
    )
    async def redeliver(
        self, request: ApiRequest, services: Services, webhook_id: str, delivery_id: str
    ) -> JsonResponse[DeliveryView]:
        """At once, with the webhook-id that it had, whatever became of it."""
        delivery = await deliveries.redeliver(
            services.store, request.user, id_in_path(webhook_id), id_in_path(delivery_id), services.clock()
        )
        return _accepted(delivery_view(delivery))

    @post(
        f"{_OF}/deliveries/redeliver",
        operation_class=documented(),
        status_code=HTTP_202_ACCEPTED,
        summary="Send all dead letters again",
    )
    async def redeliver_dead(
        self, request: ApiRequest, services: Services, webhook_id: str
    ) -> JsonResponse[RedeliveredView]:
        """Every delivery of the webhook that was given up."""
        count = await deliveries.redeliver_dead(
            services.store, request.user, id_in_path(webhook_id), services.clock()
        )
        where = f"/api/v1/webhooks/{webhook_id}/deliveries"
        return JsonResponse(
            RedeliveredView(count), status_code=HTTP_202_ACCEPTED, headers={"Location": where}
        )


def _made(made: MadeWebhook, services: Services, status: int) -> JsonResponse[MadeWebhookView]:
    view = made_webhook_view(made.webhook, made.secret, services.clock())
    headers = {**etag(made.webhook.version), "Cache-Control": "no-store"}
    return JsonResponse(view, status_code=status, headers=headers)


def _accepted(view: DeliveryView) -> JsonResponse[DeliveryView]:
    where = f"/api/v1/webhooks/{view.webhook_id}/deliveries/{view.id}"
    return JsonResponse(view, status_code=HTTP_202_ACCEPTED, headers={"Location": where})


def _position(cursor: str | None) -> str | None:
    found = canonical_uuid(cursor) if cursor is not None else None
    if found is None and cursor is not None:  # a pattern's end is before a last line break as well
        raise MalformedRequest("cursor is not one of this list's")
    return found
