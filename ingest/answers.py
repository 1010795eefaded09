"""What the door answers."""

import base64
from http import HTTPStatus

import msgspec

from ingest.domain.judge import Judgement, Result, Status
from ingest.errors import Refusal
from ingest.http.message import Answer, Headers

JSON = ("content-type", "application/json")
_PROBLEM = ("content-type", "application/problem+json")
_TEXT = ("content-type", "text/plain; charset=utf-8")
_NO_STORE = ("cache-control", "no-store")
_RETRY_AFTER = ("retry-after", "1")
_LATER = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
_GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")


class _Results(msgspec.Struct, frozen=True, gc=False):
    results: list[Result]


class _Problem(msgspec.Struct, frozen=True):
    type: str
    title: str
    status: int
    detail: str


_encoder = msgspec.json.Encoder()


def json_answer(content: object, status: int = HTTPStatus.OK, headers: Headers = ()) -> Answer:
    """`content` as JSON."""
    return Answer(status, [JSON, *headers], _encoder.encode(content))


def text_answer(content: str) -> Answer:
    """`content` as plain text."""
    return Answer(HTTPStatus.OK, [_TEXT], content.encode())


def problem(refusal: Refusal) -> Answer:
    """A whole request refused (RFC 9457)."""
    kind = refusal.problem
    body = _Problem(f"/problems/{kind.name}", kind.title, kind.status, refusal.detail)
    return Answer(kind.status, [_PROBLEM, *refusal.headers], _encoder.encode(body))


def events_answer(judgement: Judgement, *, minimal: bool) -> Answer:
    """The results of durable events: 422 when all were rejected, 204 if asked for and none was."""
    results = judgement.results
    if results and len(judgement.refused) == len(results):
        status = HTTPStatus.UNPROCESSABLE_ENTITY
    elif minimal and len(judgement.stamped) == len(results):
        return Answer(HTTPStatus.NO_CONTENT, [("preference-applied", "return=minimal")])
    else:
        status = HTTPStatus.ACCEPTED
    return Answer(status, [JSON], _encoder.encode(_Results(results)))


def pixel(result: Result | None) -> Answer:
    """The picture, whatever happened: None when the event is not durable."""
    if result is None or result.status is Status.RETRY:
        return _gif(HTTPStatus.SERVICE_UNAVAILABLE, [_RETRY_AFTER])
    rejected = result.status is Status.REJECTED
    return _gif(HTTPStatus.UNPROCESSABLE_ENTITY if rejected else HTTPStatus.OK)


def pixel_refused(refusal: Refusal) -> Answer:
    """A picture is answered with 200, 422 or 503: what may work later is 503."""
    later = refusal.problem.status in _LATER
    status = HTTPStatus.SERVICE_UNAVAILABLE if later else HTTPStatus.UNPROCESSABLE_ENTITY
    return _gif(status, refusal.headers)


def _gif(status: int, headers: Headers = ()) -> Answer:
    return Answer(status, [("content-type", "image/gif"), _NO_STORE, *headers], _GIF)
