"""The door's HTTP interface: which request is answered by what."""

import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import parse_qs

import msgspec
import structlog
from prometheus_client import CONTENT_TYPE_LATEST

from ingest import answers, metrics, pixel
from ingest.access import Access, key_in, origin_allowed
from ingest.admission import Admission
from ingest.domain.decode import Decoded
from ingest.domain.gate import serving
from ingest.domain.incoming import MAX_EVENTS
from ingest.domain.judge import Judge, Judgement
from ingest.domain.knowledge import Knowledge
from ingest.errors import NotDurable, Refusal, unavailable
from ingest.event_body import EventBody, Taken
from ingest.exposition import Exposition
from ingest.http.message import CLOSE, Answer, Headers, Reading, Request
from ingest.samples import Samples
from schemas import door_problems
from schemas.access_keys import AccessKey, KeyKind
from schemas.door_problems import (
    BAD_PARAMETER,
    METHOD_NOT_ALLOWED,
    MISSING_SCOPE,
    NOT_FOUND,
    ORIGIN_NOT_ALLOWED,
    DoorProblem,
)
from schemas.events import TrackingEvent
from schemas.ids import canonical_uuid
from schemas.reasons import Rejected

log = structlog.get_logger(__name__)

_PREFLIGHT = [
    ("access-control-allow-methods", "GET, POST, OPTIONS"),
    ("access-control-allow-headers", "Content-Type, Content-Encoding, If-None-Match, Prefer, X-Write-Key"),
    ("access-control-max-age", "86400"),
]
_PIXEL = "/v1/pixel.gif"
_LONGEST_ORIGIN = 512
"""Characters; answers are rendered with it, and kept for the next one."""
_EXPOSED = ("access-control-expose-headers", "Date, ETag, Retry-After")


class Sink(Protocol):
    """Where events are made durable."""

    @property
    def trouble(self) -> str:
        """What keeps it from its usual way; empty when nothing does."""

    def require_room(self) -> None:
        """Raises NotDurable when it is clear beforehand that nothing can be stored."""

    def store(self, events: Sequence[TrackingEvent], done: Callable[[NotDurable | None], None]) -> None:
        """Calls `done` when all are durable, or not all are known to be. Raises NotDurable at once, too."""


class Readiness(Protocol):
    """How much of the compacted topics the door has read."""

    @property
    def ready(self) -> bool:
        """Whether enough is known to decide by."""

    @property
    def catching_up(self) -> bool:
        """Whether what is unknown may only not have been read yet."""


Handler = Callable[[Request], Reading | None]


class Routes:
    """The door's application."""

    def __init__(
        self,
        *,
        knowledge: Knowledge,
        access: Access,
        judge: Judge,
        sink: Sink,
        readiness: Readiness,
        admission: Admission,
    ) -> None:
        self._knowledge = knowledge
        self._access = access
        self._judge = judge
        self._sink = sink
        self._readiness = readiness
        self._admission = admission
        self._samples = Samples()
        self._exposition = Exposition(time.monotonic())
        self._is_draining = False
        self._is_leaving = False
        self.in_flight = 0
        """Requests that have not been answered."""
        self._handlers: dict[str, dict[str, Handler]] = {
            "/v1/events": {"POST": self._events},
            _PIXEL: {"GET": self._pixel},
            "/v1/serve": {"GET": self._answering(self._serve)},
            "/v1/rejections": {"GET": self._answering(self._rejections)},
            "/health": {"GET": self._answering(self._health)},
            "/ready": {"GET": self._answering(self._ready)},
            "/metrics": {"GET": self._answering(self._metrics)},
            **{f"/problems/{problem.name}": {"GET": self._page_of(problem)} for problem in door_problems.ALL},
        }

    def begin(self, request: Request) -> Reading | None:
        """Begins to answer a request, whatever it is: it gets one answer, whatever happens."""
        self.in_flight += 1
        try:
            return self._handler(request)(request)
        except Exception as error:  # noqa: BLE001  the edge: it is answered as what it is
            self.fail(request, error)
            return None

    def answer(self, request: Request, answer: Answer) -> None:
        """Ends a request."""
        self.in_flight -= 1
        route = request.path if request.path in self._handlers else "other"
        metrics.REQUESTS.add(route, answer.status)
        origin = request.headers.get("origin")
        if origin is not None or self._is_leaving:
            headers = [*answer.headers]
            if origin is not None and len(origin) <= _LONGEST_ORIGIN:
                headers += _cors(origin, answer)
            if self._is_leaving:
                headers.append(CLOSE)
            answer = Answer(answer.status, headers, answer.body)
        request.respond(answer)

    def fail(self, request: Request, error: Exception) -> None:
        """Ends a request with its refusal; any other error is a fault of ours, and must not lose events."""
        if not isinstance(error, Refusal):
            metrics.UNEXPECTED.inc()
            log.error("request.failed", path=request.path, method=request.method, exc_info=error)
            error = unavailable("the door failed; send the same request again")
        else:
            metrics.REFUSALS.labels(error.problem.name).inc()
        is_pixel = request.path == _PIXEL and request.method == "GET"
        self.answer(request, answers.pixel_refused(error) if is_pixel else answers.problem(error))

    def abandon(self, error: Refusal) -> None:
        """Ends a request without an answer: nobody is there to get one."""
        metrics.REFUSALS.labels(error.problem.name).inc()
        self.in_flight -= 1

    def refused(self, status: int) -> None:
        """A client that sent no request at all."""
        metrics.REQUESTS.add("none", status)

    def leave(self) -> None:
        """From now on `/ready` says no, so that a balancer sends nothing more; all is served as before.

        Every answer closes its connection: who has kept one open is balanced anew.
        """
        self._is_leaving = True

    def drain(self) -> None:
        """From now on events are refused with 503: the door is about to stop."""
        self._is_draining = True

    def _answering(self, answer_of: Callable[[Request], Answer]) -> Handler:
        """A handler of requests that are answered at once."""

        def handle(request: Request) -> None:
            self.answer(request, answer_of(request))

        return handle

    def _page_of(self, problem: DoorProblem) -> Handler:
        page = answers.text_answer(f"{problem.title} ({problem.status})\n\n{problem.advice}\n")
        return self._answering(lambda _: page)

    def _handler(self, request: Request) -> Handler:
        by_method = self._handlers.get(request.path)
        if by_method is None:
            raise Refusal(NOT_FOUND, "there is nothing here; events go to /v1/events")
        is_head = request.method == "HEAD" and request.path != _PIXEL  # a pixel that is fetched is an event
        handler = by_method.get("GET" if is_head else request.method)
        if handler is not None:
            return handler
        if request.method == "OPTIONS":
            return self._answering(self._preflight)
        allow = ("allow", ", ".join([*by_method, "OPTIONS"]))
        raise Refusal(METHOD_NOT_ALLOWED, f"this path takes {', '.join(by_method)}", [allow])

    def _events(self, request: Request) -> Reading:
        now = time.time_ns() // 1_000_000
        key = self._admit_events(request, now)
        return EventBody(self, request, key, self._admission.hold(key.organization_id), now)

    def _pixel(self, request: Request) -> None:
        now = time.time_ns() // 1_000_000
        key = self._admit_events(request, now)
        held = self._admission.hold(key.organization_id)

        def done(judgement: Judgement, error: NotDurable | None) -> None:
            held.release()
            if error is None:
                self.answer(request, answers.pixel(judgement.results[0]))
            else:
                self.fail(request, unavailable(str(error), error.retry_after))

        try:
            self.take([pixel.event_of(request.query_string)], key, request, now, done)
        except BaseException:
            held.release()
            raise

    def take(
        self, decoded: Sequence[Decoded], key: AccessKey, request: Request, now: int, done: Taken
    ) -> None:
        """Judges events, and calls `done` when those that count are durable, or can't be. Raises Refusal."""
        self._access.spend(key, len(decoded))
        sender = self._access.sender(key, request)
        judgement = self._judge.judge(decoded, sender, now=now, catching_up=self._readiness.catching_up)
        if not judgement.stamped:
            self._count(judgement, key, now)
            done(judgement, None)
            return
        started = time.perf_counter()

        def durable(error: NotDurable | None) -> None:
            if error is None:
                metrics.ACCEPT_SECONDS.observe(time.perf_counter() - started)
                self._count(judgement, key, now)
            done(judgement, error)

        try:
            self._sink.store(judgement.stamped, durable)
        except NotDurable as error:
            raise unavailable(str(error), error.retry_after) from None

    def _count(self, judgement: Judgement, key: AccessKey, now: int) -> None:
        metrics.EVENTS.add_all([(result.status, result.reason or "") for result in judgement.results])
        for refused in judgement.refused:
            self._samples.keep(refused, key, now)

    def _admit(self, request: Request, now: int) -> AccessKey:
        if self._is_draining:
            raise unavailable("this door is stopping")
        if not self._readiness.ready:
            raise unavailable("the door has not read its campaigns and keys yet")
        headers = request.headers
        key = key_in(headers, request.query_string)
        return self._access.require(key, headers.get("origin"), now, catching_up=self._readiness.catching_up)

    def _admit_events(self, request: Request, now: int) -> AccessKey:
        """Who may send events, now: what can be refused without reading the body is refused here."""
        key = self._admit(request, now)
        self._access.require_allowance(key)
        try:
            self._sink.require_room()
        except NotDurable as error:
            raise unavailable(str(error), error.retry_after) from None
        return key

    def _serve(self, request: Request) -> Answer:
        now = time.time_ns() // 1_000_000
        key = self._admit(request, now)
        asked = ",".join(parse_qs(request.query_string).get("campaigns", ())).split(",")
        ids = dict.fromkeys(part.strip() for part in asked if part.strip())
        if not 0 < len(ids) <= MAX_EVENTS:
            raise Refusal(BAD_PARAMETER, f"campaigns takes 1 to {MAX_EVENTS} ids, separated by commas")
        content = {"campaigns": {campaign: self._serving(campaign, key, now) for campaign in ids}}
        answer = answers.json_answer(content)
        etag = f'"{blake2b(answer.body, digest_size=12).hexdigest()}"'
        headers = [("etag", etag), ("cache-control", "private, no-cache"), ("vary", "X-Write-Key")]
        if etag in (request.headers.get("if-none-match") or ""):
            return Answer(HTTPStatus.NOT_MODIFIED, headers)
        return msgspec.structs.replace(answer, headers=[*answer.headers, *headers])

    def _serving(self, campaign_id: str, key: AccessKey, now: int) -> dict[str, Any]:
        state = self._knowledge.campaign_of(canonical_uuid(campaign_id) or campaign_id, key.organization_id)
        if state is None:
            return {"serve": False, "reason": Rejected.UNKNOWN_CAMPAIGN}
        reason = serving(state, self._knowledge.gates.get(state.campaign_id), now)
        return {"serve": False, "reason": reason} if reason else {"serve": True}

    def _rejections(self, request: Request) -> Answer:
        key = self._admit(request, time.time_ns() // 1_000_000)
        if key.kind is not KeyKind.SERVER:
            raise Refusal(MISSING_SCOPE, "only a server key may look at refused events")
        return answers.json_answer({"rejections": self._samples.of(key.organization_id)})

    def _preflight(self, request: Request) -> Answer:
        """A browser sends no X-Write-Key with it, so only a key in the query can be held to its origins."""
        key = self._access.find(key_in(request.headers, request.query_string))
        origin = request.headers.get("origin")
        if key is not None and origin is not None and not origin_allowed(key, origin):
            raise Refusal(ORIGIN_NOT_ALLOWED, "the key may not be used from this origin")
        return Answer(HTTPStatus.NO_CONTENT, _PREFLIGHT)

    def _health(self, _: Request) -> Answer:
        return answers.json_answer({"status": "ok"})

    def _ready(self, _: Request) -> Answer:
        if self._is_leaving or not self._readiness.ready:
            raise unavailable("the door is stopping, or has not read its campaigns and keys yet")
        trouble = self._sink.trouble
        content = {"status": "degraded", "detail": trouble} if trouble else {"status": "ready"}
        return answers.json_answer(content)

    def _metrics(self, _: Request) -> Answer:
        """One to a connection: it is a thousand times what asks for it, and a read may hold a hundred."""
        headers = [("content-type", CONTENT_TYPE_LATEST), CLOSE]
        return Answer(HTTPStatus.OK, headers, self._exposition.text(time.monotonic()))


def _cors(origin: str, answer: Answer) -> Headers:
    if answer.status == HTTPStatus.FORBIDDEN:
        return [("vary", "Origin")]
    return [("access-control-allow-origin", origin), ("vary", "Origin"), _EXPOSED]
