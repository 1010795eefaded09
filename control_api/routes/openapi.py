"""What the OpenAPI document says beyond what Litestar reads from the routes."""

import datetime as dt
import types
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import (
    Components,
    Example,
    OpenAPIFormat,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Parameter,
    Reference,
    RequestBody,
    Schema,
    SecurityScheme,
)

from control_api.domain.control_keys import ApiKeyRequest
from control_api.domain.duplication import Duplication
from control_api.domain.metrics import Metrics
from control_api.domain.performance import Report
from control_api.domain.submission import Replacement, Submission
from control_api.domain.targeting import Audience
from control_api.domain.tracking import TrackedEvent
from control_api.domain.users import UserReplacement, UserRequest
from control_api.domain.webhooks import Rotation, WebhookReplacement, WebhookRequest
from control_api.handlers.approvals import Asking, Deciding
from control_api.handlers.bulk import BulkActivation, BulkPausing, BulkStopping
from control_api.handlers.login import LoginRequest, PasswordChange
from control_api.handlers.organization import OrganizationRequest
from control_api.handlers.sessions import LogoutRequest, RefreshRequest
from control_api.handlers.track import Result
from control_api.handlers.transitions import Activation, Pausing, Stopping
from control_api.routes.access_views import (
    ApiKeysView,
    AuditPageView,
    MadeApiKeyView,
    MeView,
    TokensView,
    UsersView,
    UserView,
)
from control_api.routes.answer_examples import ANSWERS
from control_api.routes.job_views import JobErrorView, JobIdView, JobView
from control_api.routes.openapi_answers import with_answers
from control_api.routes.problems import Problem
from control_api.routes.reading import plain_type
from control_api.routes.transition_views import ApprovalsView, ApprovalView, BulkView, PreviewView
from control_api.routes.views import CampaignView, OrganizationView, PageView
from control_api.routes.webhooks_views import (
    DeliveriesView,
    DeliveryDetailView,
    MadeWebhookView,
    RedeliveredView,
    WebhooksView,
)

TITLE = "Flightline control API"
_BEARER, _API_KEY = "bearer", "apiKey"
SHOWN: tuple[type[msgspec.Struct], ...] = (
    Submission,
    Replacement,
    Activation,
    Pausing,
    Stopping,
    ApiKeyRequest,
    UserRequest,
    UserReplacement,
    LoginRequest,
    RefreshRequest,
    LogoutRequest,
    PasswordChange,
    OrganizationRequest,
    Duplication,
    Asking,
    Deciding,
    BulkActivation,
    BulkPausing,
    BulkStopping,
    CampaignView,
    PageView,
    Metrics,
    ApiKeysView,
    MadeApiKeyView,
    UserView,
    UsersView,
    TokensView,
    AuditPageView,
    Report,
    Audience,
    TrackedEvent,
    Result,
    OrganizationView,
    MeView,
    WebhookRequest,
    WebhookReplacement,
    Rotation,
    WebhooksView,
    MadeWebhookView,
    DeliveriesView,
    DeliveryDetailView,
    RedeliveredView,
    PreviewView,
    ApprovalView,
    ApprovalsView,
    BulkView,
    JobIdView,
    JobView,
    JobErrorView,
    Problem,
)
"""Every body of the API; what they contain comes with them."""

_CAMPAIGN = ["name", "type", "targetingRules", "startDate", "settings"]
_REQUIRED = {"Submission": _CAMPAIGN, "Replacement": _CAMPAIGN}
"""Optional for the decoder, so that the rules can name all that is missing at once."""

EXAMPLES: dict[str, dict[str, Any]] = {
    "create": {
        "name": "Summer Sale",
        "description": "Summer promotion campaign with 20% discount",
        "type": "PROMOTION",
        "targetingRules": ["rule-123", "rule-456"],
        "startDate": "2027-06-01T00:00:00Z",
        "endDate": "2027-08-31T23:59:59Z",
        "budget": {"amount": 10000.00, "currency": "EUR"},
        "settings": {
            "targetAudience": ["segment-1", "segment-2"],
            "channels": ["EMAIL", "WEB", "PUSH"],
            "frequency": "WEEKLY",
            "maxImpressions": 100000,
            "pricing": {"model": "CPM", "price": {"amount": 2.50, "currency": "EUR"}},
            "personalization": {"enabled": True, "rules": ["personalization-rule-1"]},
        },
    },
    "user": {
        "email": "ann@shop.example",
        "name": "Ann",
        "roles": ["editor"],
        "password": "a long pass phrase",
    },
    "login": {"email": "ann@shop.example", "password": "a long pass phrase"},
    "refresh": {"refreshToken": "4pTRvd0Jq8Hc0lXKZ3f5m9zG1uWnYbQe7sLaMiOtxkE"},
    "track": {
        "type": "CONVERSION",
        "eventId": "order-4711",
        "visitorId": "v-81",
        "channel": "WEB",
        "revenue": {"amount": 49.90, "currency": "EUR"},
    },
    "key": {"name": "web shop", "kind": "publishable", "allowedOrigins": ["https://shop.example"]},
    "webhook": {
        "url": "https://shop.example/hooks/flightline",
        "eventTypes": ["flightline.campaign.paused", "flightline.campaign.completed"],
        "description": "stops the ad server",
    },
}
EXAMPLES["bulk"] = {"ids": ["0190f5b0-0000-7000-8000-000000000001"], "atomic": True}
EXAMPLES["bulk-stop"] = EXAMPLES["bulk"] | {"justification": "The offer has ended"}
EXAMPLES["duplicate"] = {"startDate": "2028-06-01T00:00:00Z"}
EXAMPLES["comment"] = {"comment": "Agreed with finance"}
EXAMPLES["replace"] = EXAMPLES["create"] | {"description": "With 25% discount"}


def documented(
    *,
    example: str | None = None,
    parameters: type[msgspec.Struct] | None = None,
    if_match: Literal["required", "optional"] | None = None,
    needs_body: bool = False,
    anyone: bool = False,
    lines: str | None = None,
) -> type[Operation]:
    """An Operation that adds an example of the body, the query parameters of a Struct, If-Match."""

    @dataclass
    class Documented(Operation):
        def __post_init__(self) -> None:
            self.security = [] if anyone else [{_BEARER: []}, {_API_KEY: []}]
            told = [_with_format(parameter) for parameter in self.parameters or ()]
            told += [] if parameters is None else parameters_of(parameters)
            told += [] if if_match is None else [_if_match(required=if_match == "required")]
            self.parameters = told
            if isinstance(self.request_body, RequestBody):
                _complete(self.request_body, example, needs_body=needs_body)
            if lines is not None:
                _with_lines(self.responses or {}, ANSWERS[lines])

    return Documented


def _with_format(parameter: Parameter | Reference) -> Parameter | Reference:
    if isinstance(parameter, Parameter) and parameter.param_in == "path" and parameter.name.endswith("_id"):
        parameter.schema = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.UUID)
    return parameter


def _with_lines(responses: Mapping[str, OpenAPIResponse | Reference], line: Any) -> None:
    """NDJSON is text for OpenAPI 3.1: its example shows what a line holds."""
    for response in responses.values():
        for content in (response.content or {}).values() if isinstance(response, OpenAPIResponse) else ():
            content.schema = Schema(type=OpenAPIType.STRING)
            content.example = msgspec.json.encode(line).decode() + "\n"


def _complete(body: RequestBody, example: str | None, *, needs_body: bool) -> None:
    for content in body.content.values():
        if example is not None:
            content.examples = {example: Example(value=EXAMPLES[example])}
        if needs_body:
            # Optional for the handler, so that what is missing is named like any other field.
            body.required = True
            content.schema = _without_null(content.schema)


def _without_null(schema: Schema | Reference | None) -> Schema | Reference | None:
    alternatives = schema.one_of if isinstance(schema, Schema) else None
    kept = [part for part in alternatives or () if getattr(part, "type", None) != OpenAPIType.NULL]
    return kept[0] if len(kept) == 1 else schema


def parameters_of(struct: type[msgspec.Struct]) -> list[Parameter | Reference]:
    """The fields of a Struct as query parameters."""
    return [
        Parameter(
            name=field.encode_name,
            param_in="query",
            schema=_schema(field.type),
            required=False,
            description=_described(field),
        )
        for field in msgspec.structs.fields(struct)
    ]


def _described(field: msgspec.structs.FieldInfo) -> str | None:
    told = [part.description for part in _meta(field.type) if part.description]
    if isinstance(field.default, str | int):
        told.append(f"Default `{field.default}`.")
    return " ".join(told) or None


def _meta(kind: Any) -> list[msgspec.Meta]:
    """What is said of a type, also of one that may be left out."""
    own = [part for part in getattr(kind, "__metadata__", ()) if isinstance(part, msgspec.Meta)]
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if get_origin(bare) in (Union, types.UnionType):
        own += [found for part in get_args(bare) for found in _meta(part)]
    return own


def _if_match(*, required: bool) -> Parameter:
    return Parameter(
        name="If-Match",
        param_in="header",
        schema=Schema(type=OpenAPIType.STRING, pattern='^("[0-9]{1,9}"|[0-9]{1,9})$'),
        required=required,
        example='"3"',
        description="The ETag of the version that is to be changed; 412 when it is not the current one.",
    )


def openapi_config(version: str) -> OpenAPIConfig:
    """What Litestar makes the document of; `document` completes it."""
    return OpenAPIConfig(
        title=TITLE,
        version=version,
        description="Campaigns, their life cycle, budgets, metrics and access keys.",
        path="/docs/generated",
        use_handler_docstrings=True,
        render_plugins=[JsonRenderPlugin(path="/openapi.json")],
        components=Components(
            security_schemes={
                _BEARER: SecurityScheme(type="http", scheme="bearer", bearer_format="JWT"),
                _API_KEY: SecurityScheme(type="apiKey", name="X-API-Key", security_scheme_in="header"),
            },
        ),
    )


def document(generated: dict[str, Any]) -> dict[str, Any]:
    """The document with exact schemas: those of msgspec, which is what reads and writes the bodies."""
    _, schemas = msgspec.json.schema_components(SHOWN, ref_template="#/components/schemas/{name}")
    for name, required in _REQUIRED.items():
        schemas[name]["required"] = required
        schemas[name]["properties"]["targetingRules"]["minItems"] = 1
    schemas["Settings"]["properties"]["channels"]["minItems"] = 1
    components = generated["components"] | {"schemas": _with_numbers(schemas)}
    return generated | {"components": components, "paths": with_answers(generated["paths"])}


def _with_numbers(schema: Any) -> Any:
    """Decimals are numbers in our JSON; msgspec describes its default, text."""
    if isinstance(schema, dict):
        if schema.get("format") == "decimal":
            return {"type": "number"}
        return {key: _with_numbers(value) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_with_numbers(value) for value in schema]
    return schema


def _schema(kind: Any) -> Schema:
    plain = plain_type(kind)
    if get_origin(plain) is tuple:
        return Schema(type=OpenAPIType.ARRAY, items=_schema(get_args(plain)[0]))
    if get_origin(plain) is Literal:
        return Schema(type=OpenAPIType.STRING, enum=list(get_args(plain)))
    if isinstance(plain, type) and issubclass(plain, Enum):
        return Schema(type=OpenAPIType.STRING, enum=[member.value for member in plain])
    least = next((part.ge for part in _meta(kind) if part.ge is not None), None)
    most = next((part.le for part in _meta(kind) if part.le is not None), None)
    pattern = next((part.pattern for part in _meta(kind) if part.pattern is not None), None)
    longest = next((part.max_length for part in _meta(kind) if part.max_length is not None), None)
    simple: dict[Any, Schema] = {
        str: Schema(type=OpenAPIType.STRING, pattern=pattern, max_length=longest),
        int: Schema(type=OpenAPIType.INTEGER, minimum=least, maximum=most),
        bool: Schema(type=OpenAPIType.BOOLEAN),
        dt.datetime: Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.DATE_TIME),
        types.NoneType: Schema(type=OpenAPIType.NULL),
    }
    return simple.get(plain, Schema(type=OpenAPIType.STRING))
