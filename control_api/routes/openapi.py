"""What the OpenAPI document says beyond what Litestar reads from the routes."""

import datetime as dt
import types
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, get_args, get_origin

import msgspec
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import (
    Components,
    Example,
    OpenAPIFormat,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Parameter,
    Reference,
    RequestBody,
    Schema,
    SecurityScheme,
)

from control_api.domain.keys import KeyRequest
from control_api.domain.metrics import Metrics
from control_api.domain.submission import Replacement, Submission
from control_api.handlers.organization import OrganizationRequest
from control_api.handlers.transitions import Activation, Pausing, Stopping
from control_api.routes.problems import MEDIA_TYPE, Problem
from control_api.routes.reading import plain_type
from control_api.routes.views import CampaignView, KeysView, MadeKeyView, MeView, OrganizationView, PageView

TITLE = "Flightline control API"
_BEARER = "bearer"
SHOWN: tuple[type[msgspec.Struct], ...] = (
    Submission,
    Replacement,
    Activation,
    Pausing,
    Stopping,
    KeyRequest,
    OrganizationRequest,
    CampaignView,
    PageView,
    Metrics,
    KeysView,
    MadeKeyView,
    OrganizationView,
    MeView,
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
    "key": {"name": "web shop", "kind": "publishable", "allowedOrigins": ["https://shop.example"]},
}
EXAMPLES["replace"] = EXAMPLES["create"] | {"description": "With 25% discount"}


def documented(
    *,
    example: str | None = None,
    parameters: type[msgspec.Struct] | None = None,
    if_match: Literal["required", "optional"] | None = None,
) -> type[Operation]:
    """An Operation that adds an example of the body, the query parameters of a Struct, If-Match, problems."""

    @dataclass
    class Documented(Operation):
        def __post_init__(self) -> None:
            self.security = [{_BEARER: []}]
            if parameters is not None:
                self.parameters = [*(self.parameters or []), *parameters_of(parameters)]
            if if_match is not None:
                self.parameters = [*(self.parameters or []), _if_match(required=if_match == "required")]
            if example is not None and isinstance(self.request_body, RequestBody):
                for content in self.request_body.content.values():
                    content.examples = {example: Example(value=EXAMPLES[example])}
            if self.responses is not None:
                self.responses.pop("400", None)
                self.responses["default"] = _problem_response()

    return Documented


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
    return [part for part in getattr(kind, "__metadata__", ()) if isinstance(part, msgspec.Meta)]


def _if_match(*, required: bool) -> Parameter:
    return Parameter(
        name="If-Match",
        param_in="header",
        schema=Schema(type=OpenAPIType.STRING),
        required=required,
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
            },
        ),
    )


def document(generated: dict[str, Any]) -> dict[str, Any]:
    """The document with exact schemas: those of msgspec, which is what reads and writes the bodies."""
    _, schemas = msgspec.json.schema_components(SHOWN, ref_template="#/components/schemas/{name}")
    for name, required in _REQUIRED.items():
        schemas[name]["required"] = required
    components = generated["components"] | {"schemas": _with_numbers(schemas)}
    return generated | {"components": components}


def _with_numbers(schema: Any) -> Any:
    """Decimals are numbers in our JSON; msgspec describes its default, text."""
    if isinstance(schema, dict):
        if schema.get("format") == "decimal":
            return {"type": "number"}
        return {key: _with_numbers(value) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_with_numbers(value) for value in schema]
    return schema


def _problem_response() -> OpenAPIResponse:
    return OpenAPIResponse(
        description="A problem; `type` leads to a page about it.",
        content={MEDIA_TYPE: OpenAPIMediaType(schema=Reference(ref="#/components/schemas/Problem"))},
    )


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
    simple: dict[Any, Schema] = {
        int: Schema(type=OpenAPIType.INTEGER, minimum=least, maximum=most),
        dt.datetime: Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.DATE_TIME),
        types.NoneType: Schema(type=OpenAPIType.NULL),
    }
    return simple.get(plain, Schema(type=OpenAPIType.STRING))
