"""What the OpenAPI document says of answers: every status with its problems, headers and examples.

Which of them an operation can give follows from its method, its parameters and its body.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from control_api.routes.answer_examples import ANSWERS, STREAM
from control_api.routes.problems import ALL, MEDIA_TYPE, Problem, ProblemType

Json = dict[str, Any]

_SCHEMA = "#/components/schemas/"
_TEXT: Json = {"type": "string"}
_ALWAYS = (400, 401, 403, 429, 500, 503)
_WITH_BODY = (408, 413, 415, 422)
_CHANGES = frozenset({"post", "put", "delete", "patch"})
_OF_ALL: Json = {
    "X-Request-ID": {"description": "The request's own, or one that was made for it.", "schema": _TEXT},
    "traceparent": {"description": "W3C trace context: this request as a span.", "schema": _TEXT},
    "RateLimit-Policy": {"description": "Whose limit it is, so many in so many seconds.", "schema": _TEXT},
    "RateLimit": {
        "description": "What is left of it, and in how many seconds there is more.",
        "schema": _TEXT,
    },
}
_OF_ANSWER: dict[str, Json] = {
    "ETag": {"description": "The version, for If-Match.", "schema": _TEXT},
    "Location": {"description": "Where what was made can be read.", "schema": _TEXT},
    "Link": {"description": '`<…>; rel="next"`, unless this page is the last one.', "schema": _TEXT},
    "Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer"}},
    "Idempotent-Replayed": {"description": "`true` when this is a first answer again.", "schema": _TEXT},
}
_VERSIONED = frozenset({"CampaignView", "OrganizationView", "UserView", "WebhookView", "MadeWebhookView"})
_EVENTS = "text/event-stream"
_STREAM: Json = {"schema": {"description": "Server-sent events, without an end."}, "example": STREAM}
_IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "example": "5f0c1c9e-0f4b-4e0a-9d35-7c1e3a1f2b6d",
    "description": "Sent again with the same request within a day, it gets the first answer again.",
}


def with_answers(paths: dict[str, Json]) -> dict[str, Json]:
    """All paths with complete answers."""
    return {
        path: {
            method: _operation(path, method, operation) if isinstance(operation, dict) else operation
            for method, operation in item.items()
        }
        for path, item in paths.items()
    }


def _operation(path: str, method: str, operation: Json) -> Json:
    parameters = list(operation.get("parameters") or [])
    if method == "post":
        parameters.append(_IDEMPOTENCY_KEY)
    names = {parameter.get("name") for parameter in parameters}
    answers: Json = {}
    for status, answer in operation["responses"].items():
        if int(status) < min(_ALWAYS):
            answers[status] = _success(method, status, answer, pages="cursor" in names)
    for status in sorted(set(_statuses(path, method, operation, parameters))):
        answers[str(status)] = _refusal(status)
    return operation | {"parameters": parameters, "responses": answers}


def _statuses(path: str, method: str, operation: Json, parameters: list[Json]) -> Iterator[int]:
    yield from _ALWAYS
    if "{" in path:
        yield 404
    if "requestBody" in operation:
        yield from _WITH_BODY
    if method in _CHANGES:
        yield from (409, 422)
    for parameter in parameters:
        if parameter.get("name") == "If-Match":
            yield from (412, 428) if parameter.get("required") else (412,)


def _success(method: str, status: str, answer: Json, *, pages: bool) -> Json:
    headers = dict(_OF_ALL)
    content = answer.get("content", {})
    shown = {name for media in content.values() for name in _names(media.get("schema", {}))}
    if shown & _VERSIONED:
        headers["ETag"] = _OF_ANSWER["ETag"]
    if status in {"201", "202"}:
        headers["Location"] = _OF_ANSWER["Location"]
    if pages:
        headers["Link"] = _OF_ANSWER["Link"]
    if method == "post":
        headers["Idempotent-Replayed"] = _OF_ANSWER["Idempotent-Replayed"]
    completed = {
        kind: _STREAM if kind == _EVENTS else _with_example(media) for kind, media in content.items()
    }
    return answer | {"headers": headers} | ({"content": completed} if completed else {})


def _with_example(media: Json) -> Json:
    """An example, or one of each alternative; of a list, a list of one."""
    listed = ANSWERS.get(next(iter(_names(media.get("schema", {}).get("items", {}))), ""))
    if listed is not None:
        return media | {"example": [listed]}
    found = {name: ANSWERS[name] for name in _names(media.get("schema", {})) if name in ANSWERS}
    if len(found) > 1:
        return media | {"examples": {name: {"value": value} for name, value in found.items()}}
    return media | ({"example": next(iter(found.values()))} if found else {})


def _names(schema: Json) -> list[str]:
    """The schemas that it refers to, as itself or as its alternatives."""
    references = [str(part.get("$ref", "")) for part in (schema, *schema.get("oneOf", ()))]
    return [name.removeprefix(_SCHEMA) for name in references if name.startswith(_SCHEMA)]


def _refusal(status: int) -> Json:
    kinds = [kind for kind in ALL.values() if kind.status == status]
    headers = dict(_OF_ALL)
    if status in {429, 503}:
        headers["Retry-After"] = _OF_ANSWER["Retry-After"]
    told = " ".join(f"`{kind.name}`: {kind.title}." for kind in kinds)
    return {
        "description": told or "Too many requests.",
        "headers": headers,
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": f"{_SCHEMA}Problem"},
                "examples": {kind.name: {"value": _problem(kind)} for kind in kinds},
            }
        },
    }


def _problem(kind: ProblemType) -> Any:
    problem = Problem(
        type=f"/problems/{kind.name}",
        title=kind.title,
        status=kind.status,
        detail=kind.advice,
        instance="/api/v1/campaigns",
        request_id="0190b2c4-0000-7000-8000-000000000001",
    )
    return msgspec.to_builtins(problem)
