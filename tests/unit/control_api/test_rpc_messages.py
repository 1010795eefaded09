"""Messages of gRPC and the values of the HTTP side: one and the same, in both directions."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor
from google.protobuf.struct_pb2 import Struct
from google.rpc import code_pb2, error_details_pb2

from control_api import errors
from control_api.domain.account import Account
from control_api.domain.campaign import (
    Campaign,
    CampaignType,
    Day,
    Frequency,
    PendingBudget,
    Settings,
)
from control_api.domain.metrics import metrics_of
from control_api.domain.permissions import OF_METHOD, OF_ROUTE
from control_api.domain.refusals import FieldError, InvalidCampaign
from control_api.domain.submission import Submission
from control_api.domain.tracking import TrackedEvent
from control_api.routes.problems import ALL, BY_ERROR
from control_api.routes.views import PageView, campaign_view
from control_api.rpc.campaigns import METHODS, REPEATABLE, STREAMS
from control_api.rpc.messages import as_json, enum_text, field_path, read, write
from control_api.rpc.server import SERVICE
from control_api.rpc.status import code_of, status_of
from schemas.flightline.v1 import campaigns_pb2 as pb
from schemas.ids import new_id
from schemas.money import Money
from schemas.protobuf import generated, stale
from schemas.reasons import CampaignStatus, Channel, EventType, PricingModel, StatusReason

NOW = datetime(2026, 11, 24, 12, 0, 0, 123_000, tzinfo=UTC)
SETTINGS = {
    "targetAudience": ["segment-1"],
    "channels": ["WEB", "EMAIL"],
    "frequency": "DAILY",
    "maxImpressions": 10**15,
    "budgetLimit": {"amount": "8000.00", "currency": "EUR"},
    "pricing": {"model": "CPM", "price": {"amount": "2.5", "currency": "EUR"}},
    "attribution": {"clickHours": 0, "conversionDays": 30},
    "frequencyCap": {"impressions": 5, "perHours": 24},
    "landingHosts": ["shop.example"],
    "abTestSettings": {
        "variants": [{"name": "a", "weight": 0}, {"name": "b", "weight": 50}],
        "primaryMetric": "ctr",
        "minimumSample": 7,
        "confidence": 0.5,
    },
    "schedulingRules": [{"days": ["MON"], "timeZone": "Europe/Berlin", "from": "09:00", "to": "18:00"}],
    "personalization": {"enabled": True, "rules": ["r"]},
}


def campaign(**changes: Any) -> Campaign:
    told: dict[str, Any] = {
        "id": new_id(),
        "organization_id": new_id(),
        "name": "Summer <b>Sale</b>",
        "description": "ü",
        "type": CampaignType.PROMOTION,
        "targeting_rules": ("rule-1",),
        "start_date": NOW,
        "end_date": NOW.replace(year=2027),
        "budget": Money(Decimal("10000.00"), "EUR"),
        "settings": msgspec.convert(SETTINGS, Settings, strict=False),
        "currency": "EUR",
        "status": CampaignStatus.PAUSED,
        "status_reason": StatusReason.BUDGET_90,
        "pending_budget": PendingBudget(None, None),
        "created_by": new_id(),
        "created_at": NOW,
        "updated_by": new_id(),
        "updated_at": NOW,
    }
    return Campaign(**(told | changes))


ACCOUNT = Account(
    currency="EUR",
    budget=10_000_000_000,
    impressions=15_420,
    clicks=1_234,
    conversions=89,
    billed=890_000_000,
    revenue=4_450_000_000,
    unbilled={"PAUSED": 3},
    last_received_at=NOW,
)


def untold(kind: Descriptor, view: dict[str, Any]) -> list[str]:
    """Names of a view's JSON that the message has no field for."""
    fields = {field.json_name: field for field in kind.fields}
    missing = [name for name in view if name not in fields]
    for name, value in view.items():
        part = fields[name].message_type if name in fields else None
        if part is None or part.full_name.startswith("google.") or part.GetOptions().map_entry:
            continue
        for item in value if isinstance(value, list | tuple) else [value]:
            missing += [f"{name}.{inner}" for inner in untold(part, item or {})]
    return missing


def test_a_campaign_is_written_with_every_field_of_its_view_and_loses_nothing() -> None:
    view = campaign_view(campaign(), ACCOUNT, NOW, warnings=("w",), published=True)
    shown = msgspec.to_builtins(view)
    assert untold(pb.Campaign.DESCRIPTOR, shown) == []
    message = pb.Campaign.FromString(write(pb.Campaign, view).SerializeToString())
    assert message.budget.amount == "10000.00"
    assert message.settings.pricing.price.amount == "2.5"
    assert message.start_date.ToDatetime(UTC) == NOW
    assert message.metrics.ctr == 8.0
    assert message.metrics.conversion_rate == 7.2
    assert message.metrics.roi == 400.0
    assert dict(message.metrics.unbilled) == {"PAUSED": 3}
    assert message.status == pb.CAMPAIGN_STATUS_PAUSED
    assert message.HasField("pending_budget")
    assert not message.pending_budget.HasField("amount")
    assert message.settings.ab_test_settings.variants[0].weight == 0
    assert as_json(message.settings) == SETTINGS


def test_what_has_no_value_is_not_there() -> None:
    bare = campaign(end_date=None, budget=None, status_reason=None, pending_budget=None, settings=Settings())
    message = write(pb.Campaign, campaign_view(bare, None, NOW))
    for name in ("end_date", "budget", "pending_budget", "metrics", "propagation"):
        assert not message.HasField(name)
    empty = write(pb.Metrics, metrics_of(Account(currency="EUR")))
    for name in ("ctr", "roas", "cost_per_click", "last_updated"):
        assert not empty.HasField(name)
    assert not write(pb.ListCampaignsResponse, PageView([], None)).HasField("next_cursor")


def test_a_submission_of_either_side_is_read_the_same() -> None:
    view = campaign_view(campaign(), None, NOW)
    message = write(pb.CampaignContent, view)
    submission, errors = read(Submission, message)
    assert errors == ()
    assert submission.settings == view.settings
    assert submission.budget == view.budget
    assert submission.start_date == view.start_date
    assert (submission.name, submission.type) == (view.name, view.type)


def test_every_wrong_field_of_a_message_is_named_at_once() -> None:
    message = pb.CampaignContent(
        name="x" * 256,
        type=99,
        start_date={"seconds": 10**15},
        budget=pb.Money(amount="much", currency="EUR"),
        settings=pb.Settings(
            channels=[pb.CHANNEL_UNSPECIFIED],
            max_impressions=-1,
            landing_hosts=["a b"],
            ab_test_settings=pb.ABTest(confidence=float("nan")),
        ),
    )
    _, errors = read(Submission, message)
    assert {error.pointer for error in errors} == {
        "/name",
        "/type",
        "/startDate",
        "/budget/amount",
        "/settings/channels/0",
        "/settings/maxImpressions",
        "/settings/landingHosts/0",
        "/settings/abTestSettings/variants",
        "/settings/abTestSettings/confidence",
    }


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_what_json_has_no_word_for_is_a_wrong_field(number: str) -> None:
    data = Struct()
    data.update({"deep": [{"x": float(number)}]})
    with pytest.raises(errors.InvalidRequest) as caught:
        read(TrackedEvent, pb.TrackedEvent(type=pb.EVENT_TYPE_CLICK, data=data))
    assert [error.pointer for error in caught.value.errors] == ["/data"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (pb.CampaignStatus, CampaignStatus),
        (pb.StatusReason, StatusReason),
        (pb.CampaignType, CampaignType),
        (pb.Channel, Channel),
        (pb.Frequency, Frequency),
        (pb.PricingModel, PricingModel),
        (pb.Day, Day),
        (pb.EventType, EventType),
    ],
)
def test_enums_have_the_words_of_the_http_side(kind: Any, words: Any) -> None:
    descriptor: EnumDescriptor = kind.DESCRIPTOR
    texts = [enum_text(descriptor, number) for number in sorted(descriptor.values_by_number)]
    assert texts == ["UNSPECIFIED", *words]
    assert enum_text(descriptor, 99) == "99"


@pytest.mark.parametrize(
    ("pointer", "path"),
    [
        ("/name", "name"),
        ("/settings/landingHosts/0", "settings.landing_hosts[0]"),
        ("/settings/abTestSettings/variants/1/weight", "settings.ab_test_settings.variants[1].weight"),
        ("sort", "sort"),
        ("", ""),
    ],
)
def test_a_pointer_is_the_path_of_a_field(pointer: str, path: str) -> None:
    assert field_path(FieldError(pointer, "")) == path


def test_every_method_of_the_proto_is_served_and_stands_in_the_table_of_permissions() -> None:
    methods = {method.name for method in SERVICE.methods}
    assert set(METHODS) | set(STREAMS) == methods
    assert not set(METHODS) & set(STREAMS)
    assert set(OF_METHOD) == {f"/{SERVICE.full_name}/{name}" for name in methods}
    assert methods >= REPEATABLE


@pytest.mark.parametrize(
    ("method", "route"),
    [
        ("CreateCampaign", ("POST", "/api/v1/campaigns")),
        ("GetCampaign", ("GET", "/api/v1/campaigns/{campaign_id}")),
        ("ListCampaigns", ("GET", "/api/v1/campaigns")),
        ("UpdateCampaign", ("PUT", "/api/v1/campaigns/{campaign_id}")),
        ("DeleteCampaign", ("DELETE", "/api/v1/campaigns/{campaign_id}")),
        ("ActivateCampaign", ("POST", "/api/v1/campaigns/{campaign_id}/activate")),
        ("PauseCampaign", ("POST", "/api/v1/campaigns/{campaign_id}/pause")),
        ("StopCampaign", ("POST", "/api/v1/campaigns/{campaign_id}/stop")),
        ("DuplicateCampaign", ("POST", "/api/v1/campaigns/{campaign_id}/duplicate")),
        ("GetCampaignMetrics", ("GET", "/api/v1/campaigns/{campaign_id}/metrics")),
        ("StreamCampaignMetrics", ("GET", "/api/v1/campaigns/{campaign_id}/metrics/stream")),
        ("TrackEvent", ("POST", "/api/v1/campaigns/{campaign_id}/track")),
    ],
)
def test_a_method_needs_the_permission_of_its_route(method: str, route: tuple[str, str]) -> None:
    assert OF_METHOD[f"/{SERVICE.full_name}/{method}"] == OF_ROUTE[route]


def test_the_committed_code_is_what_the_proto_makes() -> None:
    assert generated()
    assert stale() == []


def test_every_problem_has_a_code() -> None:
    for kind in ALL.values():
        if kind in BY_ERROR.values():
            assert code_of(kind) not in (code_pb2.OK, code_pb2.UNKNOWN)


def detail(error: Exception, kind: Any) -> Any:
    for packed in status_of(error, "request-1").details:
        if packed.Is(kind.DESCRIPTOR):
            found = kind()
            packed.Unpack(found)
            return found
    return None


def test_a_status_tells_what_a_problem_tells() -> None:
    wrong = InvalidCampaign([FieldError("/settings/channels", "is required")])
    assert status_of(wrong, "r").code == code_pb2.INVALID_ARGUMENT
    [violation] = detail(wrong, error_details_pb2.BadRequest).field_violations
    assert (violation.field, violation.description) == ("settings.channels", "is required")
    info = detail(errors.PreconditionFailed(7), error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == ("PRECONDITION_FAILED", "flightline")
    assert info.metadata["type"] == "/problems/precondition-failed"
    assert (info.metadata["requestId"], info.metadata["currentVersion"]) == ("request-1", "7")
    assert detail(errors.Unavailable("away"), error_details_pb2.RetryInfo).retry_delay.seconds == 1
    assert status_of(errors.NameTaken("taken"), "r").code == code_pb2.ALREADY_EXISTS


def test_a_mistake_of_ours_tells_nothing_of_itself() -> None:
    status = status_of(RuntimeError("password=1"), "r")
    assert status.code == code_pb2.INTERNAL
    assert b"password" not in status.SerializeToString()
