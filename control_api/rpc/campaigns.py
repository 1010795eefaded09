"""flightline.v1.CampaignService: the handlers of the HTTP side, with messages around them."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import msgspec
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from control_api import metrics as counters
from control_api.domain import lifecycle
from control_api.domain.duplication import Duplication
from control_api.domain.live import LiveStatus, Picture, Told, told_by
from control_api.domain.metrics import Metrics, metrics_of
from control_api.domain.submission import Replacement, Submission
from control_api.domain.tracking import TrackedEvent
from control_api.errors import (
    MalformedRequest,
    NotFound,
    PreconditionRequired,
    TooManyStreams,
    Unauthorized,
    Unavailable,
)
from control_api.handlers import campaigns, duplicates, transitions
from control_api.handlers import track as tracking
from control_api.handlers.actor import Actor
from control_api.handlers.live import End, Still, Streams
from control_api.handlers.ports import Clock, Store
from control_api.handlers.track import Door, Sender
from control_api.handlers.transitions import Activation, Pausing, Stopping, Transitioned
from control_api.routes.list_parameters import ListParameters, list_query
from control_api.routes.reading import read_parameters
from control_api.routes.request import id_in_path
from control_api.routes.views import PageView, campaign_view
from control_api.rpc.messages import as_json, read, write
from schemas.flightline.v1 import campaigns_pb2 as pb

_metrics, _status = msgspec.json.Decoder(Metrics), msgspec.json.Decoder(LiveStatus)
_ADDRESSED = frozenset({"id", "version"})


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls, and what the call is answered with; the store is the call's own when it may be repeated."""

    store: Store
    clock: Clock
    actor: Actor
    door: Door
    streams: Streams
    secret: str
    key: str | None
    privacy: dict[str, str]
    still: Still


async def create(call: Call, request: pb.CreateCampaignRequest) -> Message:
    """As POST /campaigns."""
    submission, unread = read(Submission, request.campaign)
    saved = await campaigns.create(call.store, call.actor, submission, call.clock(), unread)
    return write(pb.Campaign, campaign_view(saved.campaign, saved.account, call.clock()))


async def get(call: Call, request: pb.GetCampaignRequest) -> Message:
    """As GET /campaigns/{id}."""
    campaign, account = await campaigns.get(call.store, call.actor, id_in_path(request.id))
    return write(pb.Campaign, campaign_view(campaign, account, call.clock()))


async def list_page(call: Call, request: pb.ListCampaignsRequest) -> Message:
    """As GET /campaigns."""
    query = list_query(read_parameters(ListParameters, _parameters(request)), call.actor.organization_id)
    page, now = await campaigns.list_page(call.store, query), call.clock()
    shown = [
        campaign_view(campaign, account if query.with_metrics else None, now)
        for campaign, account in page.items
    ]
    return write(pb.ListCampaignsResponse, PageView(shown, page.next_cursor))


def _parameters(request: pb.ListCampaignsRequest) -> list[tuple[str, str]]:
    """The query parameters that say the same."""
    given = as_json(request)
    pairs = [("include", "metrics")] if given.pop("includeMetrics", False) else []
    for name, value in given.items():
        pairs += [(name, str(item)) for item in (value if isinstance(value, list) else [value])]
    return pairs


async def update(call: Call, request: pb.UpdateCampaignRequest) -> Message:
    """As PUT /campaigns/{id}."""
    version = _version(request)
    if version is None:
        raise PreconditionRequired("send the version that you have read")
    replacement, unread = read(Replacement, request.campaign)
    saved = await campaigns.replace_content(
        call.store, call.actor, id_in_path(request.id), replacement, version, call.clock(), unread
    )
    return write(pb.Campaign, campaign_view(saved.campaign, saved.account, call.clock()))


async def delete(call: Call, request: pb.DeleteCampaignRequest) -> Message:
    """As DELETE /campaigns/{id}."""
    await transitions.delete(call.store, call.actor, id_in_path(request.id), _version(request), call.clock())
    return Empty()


async def activate(call: Call, request: pb.ActivateCampaignRequest) -> Message:
    """As POST /campaigns/{id}/activate."""
    asked, _ = read(Activation, request, without=_ADDRESSED)
    moved = await transitions.activate(
        call.store, call.actor, id_in_path(request.id), asked, _version(request), call.clock()
    )
    return _moved(call, moved, lifecycle.warnings(moved.campaign))


async def pause(call: Call, request: pb.PauseCampaignRequest) -> Message:
    """As POST /campaigns/{id}/pause."""
    asked, _ = read(Pausing, request, without=_ADDRESSED)
    moved = await transitions.pause(
        call.store, call.actor, id_in_path(request.id), asked, _version(request), call.clock()
    )
    return _moved(call, moved)


async def stop(call: Call, request: pb.StopCampaignRequest) -> Message:
    """As POST /campaigns/{id}/stop."""
    asked, _ = read(Stopping, request, without=_ADDRESSED)
    moved = await transitions.stop(
        call.store, call.actor, id_in_path(request.id), asked, _version(request), call.clock()
    )
    return _moved(call, moved)


async def duplicate(call: Call, request: pb.DuplicateCampaignRequest) -> Message:
    """As POST /campaigns/{id}/duplicate."""
    asked, _ = read(Duplication, request, without=_ADDRESSED)
    saved = await duplicates.duplicate(call.store, call.actor, id_in_path(request.id), asked, call.clock())
    return write(pb.Campaign, campaign_view(saved.campaign, saved.account, call.clock()))


async def track(call: Call, request: pb.TrackEventRequest) -> Message:
    """As POST /campaigns/{id}/track; the user agent of a visitor stands in the event, if anywhere."""
    event, _ = read(TrackedEvent, request.event)
    result = await tracking.track(
        call.store,
        call.door,
        call.secret,
        call.actor,
        id_in_path(request.id),
        event,
        Sender(idempotency_key=call.key, privacy=call.privacy),
        call.clock(),
    )
    counters.TRACKED.labels(result.status).inc()
    return write(pb.TrackEventResponse, result)


async def stream_metrics(
    call: Call, request: pb.StreamCampaignMetricsRequest
) -> AsyncGenerator[Message, None]:
    """As GET /campaigns/{id}/metrics/stream; an end is a status."""
    campaign_id, organization_id = id_in_path(request.id), call.actor.organization_id
    await campaigns.get(call.store, call.actor, campaign_id)
    call.streams.require_room(organization_id)
    following = call.streams.follow(
        organization_id, campaign_id, told_by(request.after), call.actor.expires_at, call.still
    )
    async with aclosing(following) as news:
        async for each in news:
            if each.end is not None:
                kind, sentence = _ENDS[each.end]
                raise kind(sentence)
            if each.picture is not None:
                yield _update(each.picture, each.told)


def _update(picture: Picture, known: Told) -> Message:
    update = pb.MetricsUpdate(position=picture.told.text)
    if picture.told.metrics != known.metrics:
        update.metrics.CopyFrom(write(pb.Metrics, _metrics.decode(picture.metrics)))
    if picture.told.status != known.status:
        update.status.CopyFrom(write(pb.LiveStatus, _status.decode(picture.status)))
    return update


async def get_metrics(call: Call, request: pb.GetCampaignMetricsRequest) -> Message:
    """As GET /campaigns/{id}/metrics."""
    _, account = await campaigns.get(call.store, call.actor, id_in_path(request.id))
    return write(pb.Metrics, metrics_of(account))


_ENDS = {
    End.DELETED: (NotFound, "the campaign was deleted"),
    End.TOKEN_EXPIRED: (Unauthorized, "the token has expired"),
    End.STOPPING: (Unavailable, "this process is stopping; connect again"),
    End.TOO_MANY: (TooManyStreams, "too many streams are open"),
}
Method = Callable[[Call, Any], Awaitable[Message]]
Stream = Callable[[Call, Any], AsyncGenerator[Message, None]]
METHODS: dict[str, Method] = {
    "CreateCampaign": create,
    "GetCampaign": get,
    "ListCampaigns": list_page,
    "UpdateCampaign": update,
    "DeleteCampaign": delete,
    "ActivateCampaign": activate,
    "PauseCampaign": pause,
    "StopCampaign": stop,
    "DuplicateCampaign": duplicate,
    "GetCampaignMetrics": get_metrics,
    "TrackEvent": track,
}
STREAMS: dict[str, Stream] = {"StreamCampaignMetrics": stream_metrics}
REPEATABLE = frozenset(
    {
        "CreateCampaign",
        "ActivateCampaign",
        "PauseCampaign",
        "StopCampaign",
        "DuplicateCampaign",
        "TrackEvent",
    }
)
"""Those that honour an idempotency key: what is a POST over HTTP."""


def _moved(call: Call, moved: Transitioned, warnings: tuple[str, ...] = ()) -> Message:
    if not moved.published:
        counters.PROPAGATION_PENDING.inc()
    view = campaign_view(
        moved.campaign, moved.account, call.clock(), warnings=warnings, published=moved.published
    )
    return write(pb.Campaign, view)


def _version(request: Any) -> int | None:
    if not request.HasField("version"):
        return None
    if request.version < 1:
        raise MalformedRequest("version must be one of this campaign's versions")
    return int(request.version)
