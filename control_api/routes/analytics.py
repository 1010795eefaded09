"""/api/v1/campaigns/{id}/performance, /audience, /track and /metrics/stream"""

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import date, datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, get, post
from litestar.response import Stream
from litestar.response.sse import ServerSentEventMessage
from litestar.status_codes import HTTP_202_ACCEPTED

from control_api import metrics
from control_api.auth.authenticator import Credentials
from control_api.domain.campaign import Moment
from control_api.domain.live import told_by
from control_api.domain.performance import Dimension, Report
from control_api.domain.period import Interval
from control_api.domain.permissions import Permission
from control_api.domain.refusals import FieldError
from control_api.domain.targeting import Audience
from control_api.domain.tracking import TrackedEvent
from control_api.errors import MalformedRequest
from control_api.handlers import audience, campaigns, performance
from control_api.handlers.live import News
from control_api.handlers.performance import ReportRequest
from control_api.handlers.track import Result, Sender, track
from control_api.routes.openapi import documented
from control_api.routes.reading import read_parameters
from control_api.routes.repeats import key_of
from control_api.routes.request import ApiRequest, id_in_path
from control_api.routes.responses import JsonResponse
from control_api.routes.services import Services
from schemas.patterns import END

_OF = "/{campaign_id:str}"
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_FROM = "A day of the time zone, or a time with its offset; widened to whole quarter-hours."
_TO = "The same; the period ends before it. Default: now."
_GROUPS = "Any of channel, variant, country; with commas between them, or repeated."
_EACH = "|".join(Dimension)
_Dimensions = Annotated[str, msgspec.Meta(pattern=f"^({_EACH})(,({_EACH}))*{END}")]
_RECONNECT_MS = 2_000
_PRIVACY = ("sec-gpc", "dnt")
_NOT_BUFFERED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class ReportParameters(msgspec.Struct, frozen=True, rename="camel"):
    """What a report can be asked for."""

    from_: Annotated[str | None, msgspec.Meta(description=_FROM)] = msgspec.field(default=None, name="from")
    to: Annotated[str | None, msgspec.Meta(description=_TO)] = None
    interval: Interval = Interval.DAY
    tz: Annotated[
        Annotated[str, msgspec.Meta(max_length=64)] | None,
        msgspec.Meta(description="An IANA time zone. Default: the organization's."),
    ] = None
    group_by: Annotated[tuple[_Dimensions, ...], msgspec.Meta(description=_GROUPS)] = ()
    compare: Literal["previous"] | None = None


class AnalyticsRoutes(Controller):
    """What campaigns have delivered, to whom, and events for them."""

    path = "/campaigns"
    tags = ("Analytics",)

    @get(
        f"{_OF}/performance",
        operation_class=documented(parameters=ReportParameters),
        summary="Get a performance report",
        opt={"reads_parameters": True},
    )
    async def performance(
        self, request: ApiRequest, services: Services, campaign_id: str
    ) -> JsonResponse[Report]:
        """Totals, series and groups of a period by occurredAt, from what is stored: some seconds behind
        `metrics`, which come from the ledger. `pacing.actual` is the ledger's."""
        asked = _asked(read_parameters(ReportParameters, list(request.query_params.multi_items())))
        return JsonResponse(
            await performance.report(
                services.store,
                services.reports_of,
                request.user,
                id_in_path(campaign_id),
                asked,
                services.clock(),
            )
        )

    @get(f"{_OF}/audience", operation_class=documented(), summary="Get a campaign's audience")
    async def audience(
        self, request: ApiRequest, services: Services, campaign_id: str
    ) -> JsonResponse[Audience]:
        """Whom the campaign names, and how many different visitors it has reached, about."""
        return JsonResponse(
            await audience.audience(
                services.store,
                services.reports_of,
                services.targeting,
                request.user,
                id_in_path(campaign_id),
                services.clock(),
            )
        )

    @post(
        f"{_OF}/track",
        operation_class=documented(example="track"),
        status_code=HTTP_202_ACCEPTED,
        summary="Track an event",
    )
    async def track(
        self, request: ApiRequest, services: Services, campaign_id: str, data: TrackedEvent
    ) -> JsonResponse[Result]:
        """202 is the door's promise: the event is durable and will be counted exactly once. Send an eventId
        or an Idempotency-Key, so that a repeat counts once."""
        told = request.headers
        sender = Sender(
            idempotency_key=key_of(request),
            privacy={name: told[name] for name in _PRIVACY if name in told},
        )
        result = await track(
            services.store,
            services.door,
            request.app.state.secret,
            request.user,
            id_in_path(campaign_id),
            data,
            sender,
            services.clock(),
        )
        metrics.TRACKED.labels(result.status).inc()
        return JsonResponse(result, status_code=HTTP_202_ACCEPTED)

    @get(
        f"{_OF}/metrics/stream",
        operation_class=documented(),
        media_type="text/event-stream",
        summary="Follow a campaign's metrics",
    )
    async def stream(self, request: ApiRequest, services: Services, campaign_id: str) -> Stream:
        """Server-sent events: `metrics` with the metrics object and `status` with status and crossings, each
        within a second of its commit and only when it has changed; `end` with the reason before the stream
        ends. Who reads slowly gets the newest only."""
        wanted, actor = id_in_path(campaign_id), request.user
        await campaigns.get(services.store, actor, wanted)
        services.streams.require_room(actor.organization_id)
        told = told_by(request.headers.get("last-event-id"))
        given = Credentials(
            request.headers.getall("authorization", []), request.headers.getall("x-api-key", [])
        )
        still = services.access.entrance.watch(given, Permission.CAMPAIGNS_READ, services.clock)
        news = services.streams.follow(actor.organization_id, wanted, told, actor.expires_at, still)
        return Stream(_written(news), media_type="text/event-stream", headers=_NOT_BUFFERED)


async def _written(news: AsyncGenerator[News, None]) -> AsyncIterator[bytes]:
    yield ServerSentEventMessage(data=None, retry=_RECONNECT_MS, sep="\n").encode()
    async with aclosing(news):
        async for each in news:
            yield b"".join(message.encode() for message in _messages(each))


def _messages(news: News) -> list[ServerSentEventMessage]:
    def event(kind: str, data: bytes, known: str | None) -> ServerSentEventMessage:
        return ServerSentEventMessage(data=data, event=kind, id=known, sep="\n")

    if news.end is not None:
        return [event("end", msgspec.json.encode({"reason": news.end}), None)]
    picture = news.picture
    if picture is None:
        return [ServerSentEventMessage(data=None, comment="still here", sep="\n")]
    changed = []
    if picture.told.metrics != news.told.metrics:
        known = msgspec.structs.replace(news.told, metrics=picture.told.metrics)
        changed.append(event("metrics", picture.metrics, known.text))
    if picture.told.status != news.told.status:
        changed.append(event("status", picture.status, picture.told.text))
    return changed


def _asked(parameters: ReportParameters) -> ReportRequest:
    """Raises MalformedRequest."""
    names = [name for given in parameters.group_by for name in given.split(",")]
    errors = []
    moments: dict[str, datetime | date | None] = {}
    for name, text in (("from", parameters.from_), ("to", parameters.to)):
        try:
            moments[name] = _moment(text)
        except (msgspec.ValidationError, ValueError):
            errors.append(FieldError(name, "is neither a day nor a time with its offset"))
    if errors:
        raise MalformedRequest("some query parameters are not valid", errors)
    return ReportRequest(
        start=moments["from"],
        end=moments["to"],
        interval=parameters.interval,
        zone=parameters.tz,
        group_by=tuple(dict.fromkeys(map(Dimension, names))),
        compare=parameters.compare is not None,
    )


def _moment(text: str | None) -> datetime | date | None:
    if text is None:
        return None
    if _DAY.fullmatch(text):
        return date.fromisoformat(text)
    kind: Any = Moment
    moment: datetime = msgspec.convert(text.replace(" ", "+"), kind)
    return moment
