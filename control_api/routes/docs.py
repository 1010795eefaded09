"""/docs: the API as a page of its own, made from the OpenAPI document; and a page for each problem.

Plain HTML without scripts: nothing is loaded from anywhere else.
"""

from collections.abc import Iterator
from functools import cache
from html import escape
from typing import Any

import msgspec
from litestar import Litestar, MediaType, Request, get
from litestar.response import Redirect

from control_api.errors import NotFound
from control_api.routes.openapi import TITLE, document
from control_api.routes.problems import ALL, ProblemType
from schemas import door_problems
from schemas.door_problems import DoorProblem

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}
code,pre{font:14px/1.45 ui-monospace,monospace;background:#f4f5f7;border-radius:4px}
code{padding:.1em .3em}pre{padding:.8rem;overflow:auto}
details{border:1px solid #d8dce2;border-radius:6px;margin:.5rem 0;padding:.5rem .8rem}
summary{cursor:pointer}table{border-collapse:collapse;width:100%}
td,th{border-bottom:1px solid #e4e7eb;padding:.3rem .5rem;text-align:left;vertical-align:top}
.m{display:inline-block;min-width:4.6rem;margin-right:.4rem;border-radius:4px;color:#fff;
font:700 12px/1.8 ui-monospace,monospace;text-align:center}
.get{background:#2563a8}.post{background:#2c7a4b}.put{background:#946200}.delete{background:#b3362b}
a{color:#1d5aa0}nav{border-bottom:1px solid #e4e7eb;padding-bottom:.5rem}nav a{margin-right:1rem}
"""
_PROBLEMS: dict[str, dict[str, ProblemType] | dict[str, DoorProblem]] = {
    "this API": ALL,
    "the door": {kind.name: kind for kind in door_problems.ALL},
}
_NAVIGATION = "<nav><a href='/docs'>API</a><a href='/api/v1/openapi.json'>openapi.json</a></nav>"
_METHODS = ("get", "post", "put", "delete")


@get("/api/v1/openapi.json", include_in_schema=False)
async def openapi(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    return _document(request.app)


@get("/", include_in_schema=False)
async def start() -> Redirect:
    """Who opens the service's address finds the docs."""
    return Redirect("/docs")


@get("/docs", media_type=MediaType.HTML, include_in_schema=False)
async def docs(request: Request[Any, Any, Any]) -> str:
    """Operations, schemas and problems."""
    return _docs(request.app)


@get("/problems/{name:str}", media_type=MediaType.HTML, include_in_schema=False)
async def problem(name: str) -> str:
    """What a problem's `type` means, and what to do about it."""
    kinds = [(where, kinds[name]) for where, kinds in _PROBLEMS.items() if name in kinds]
    if not kinds:
        raise NotFound("there is no such problem type")
    return _page(f"Problem: {name}", "".join(part for where, kind in kinds for part in _problem(where, kind)))


@cache
def _document(app: Litestar) -> dict[str, Any]:
    """Made once: anyone may ask for it, as often as he likes."""
    return document(app.openapi_schema.to_schema())


@cache
def _docs(app: Litestar) -> str:
    return _page(TITLE, "".join(_body(_document(app))))


def _problem(where: str, kind: ProblemType | DoorProblem) -> Iterator[str]:
    yield f"<h2>{escape(kind.title)}</h2><p>Answered by {where} with status <code>{kind.status}</code>.</p>"
    yield f"<p>{_text(kind.advice)}</p>"


def _page(title: str, body: str) -> str:
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style>{_NAVIGATION}<h1>{escape(title)}</h1>{body}</html>"
    )


def _body(shown: dict[str, Any]) -> Iterator[str]:
    yield f"<p>{_text(shown['info'].get('description', ''))}</p>"
    yield "<p>The machine-readable document: <a href='/api/v1/openapi.json'>openapi.json</a>. Every request "
    yield "under <code>/api/v1</code> needs <code>Authorization: Bearer TOKEN</code> or "
    yield "<code>X-API-Key: KEY</code>.</p><h2>Operations</h2>"
    for path, item in sorted(shown["paths"].items()):
        for method in _METHODS:
            if method in item:
                yield from _operation(method, path, item[method])
    yield "<h2>Schemas</h2>"
    for name, schema in sorted(shown["components"]["schemas"].items()):
        yield f"<details id='schema-{escape(name)}'><summary><code>{escape(name)}</code></summary>"
        yield f"<p>{_text(schema.get('description', ''))}</p>{_json(schema)}</details>"
    for where, kinds in _PROBLEMS.items():
        yield f"<h2>Problems of {where}</h2><table>"
        for kind in kinds.values():
            yield f"<tr><td>{kind.status}<td><a href='/problems/{kind.name}'><code>{kind.name}</code></a>"
            yield f"<td>{_text(kind.advice)}"
        yield "</table>"


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"<details><summary><span class='m {method}'>{method.upper()}</span> <code>{escape(path)}</code> "
    yield f"{_text(operation.get('summary', ''))}</summary><p>{_text(operation.get('description') or '')}</p>"
    if parameters := operation.get("parameters"):
        yield "<table><tr><th>Parameter<th>In<th>Type<th>Meaning"
        for parameter in parameters:
            kind = _type(parameter.get("schema", {}))
            yield f"<tr><td><code>{escape(parameter['name'])}</code><td>{parameter['in']}<td>{escape(kind)}"
            yield f"<td>{_text(parameter.get('description') or '')}"
        yield "</table>"
    for content in operation.get("requestBody", {}).get("content", {}).values():
        yield f"<p>Body: {_reference(content.get('schema', {}))}</p>"
        for example in content.get("examples", {}).values():
            yield _json(example["value"])
    for status, response in operation.get("responses", {}).items():
        if not response.get("content"):
            yield f"<p>Answer {escape(status)}, without a body</p>"
        for content in response.get("content", {}).values():
            yield f"<p>Answer {escape(status)}: {_reference(content.get('schema', {}))}</p>"
    yield "</details>"


def _reference(schema: dict[str, Any]) -> str:
    name = schema.get("$ref", "").rpartition("/")[2]
    if name:
        return f"<a href='#schema-{escape(name)}'><code>{escape(name)}</code></a>"
    several = schema.get("oneOf") or schema.get("anyOf") or []
    return " or ".join(filter(None, map(_reference, several))) or f"<code>{escape(_type(schema))}</code>"


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type") or "")


def _json(value: Any) -> str:
    return f"<pre>{escape(msgspec.json.format(msgspec.json.encode(value)).decode())}</pre>"


def _text(text: str) -> str:
    """Escaped, with `code` between backticks."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))


ROUTES = (start, docs, openapi, problem)
