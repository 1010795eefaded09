"""The door's HTTP interface: which request is answered by what."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import parse_qs

import msgspec
import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from ingest import answers, bodies, metrics, pixel
from ingest.access import Access, HeaderMap, key_in, origin_allowed
from ingest.admission import Admission, Held
from ingest.answers import Answer
from ingest.domain.decode import BadBody, Decoded, TooManyEvents, decode_events
from ingest.domain.gate import serving
from ingest.domain.incoming import MAX_EVENTS
from ingest.domain.judge import Judge, Judgement
from ingest.domain.knowledge import Knowledge
from ingest.errors import Headers, NotDurable, Refusal, unavailable
from ingest.samples import Samples
from ingest.slow_bodies import BodyReader
from schemas import door_problems
from schemas.access_keys import AccessKey, KeyKind
from schemas.door_problems import (
    BAD_PARAMETER,
    MALFORMED_BODY,
    METHOD_NOT_ALLOWED,
    MISSING_SCOPE,
    NOT_FOUND,
    ORIGIN_NOT_ALLOWED,
    TOO_LARGE,
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
_CLOSE = ("connection", "close")
_EXPOSED = ("access-control-expose-headers", "Date, ETag, Retry-After")


class Scope(Protocol):
    """A request's head as Granian gives it (RSGI)."""

    method: str
    path: str
    query_string: str
    client: str

    @property
    def headers(self) -> HeaderMap:
        """The request's headers."""


class Exchange(bodies.Body, Protocol):
    """The request's body, and the way to answer."""

    def response_bytes(self, status: int, headers: Headers, body: bytes) -> None:
        """Sends the response."""


class Sink(Protocol):
    """Where events are made durable."""

    @property
    def trouble(self) -> str:
        """What keeps it from its usual way; empty when nothing does."""

    def require_room(self) -> None:
        """Raises NotDurable when it is clear beforehand that nothing can be stored."""

    async def store(self, events: Sequence[TrackingEvent]) -> None:
        """Returns when all are durable; raises NotDurable when not all are known to be."""


class Readiness(Protocol):
    """How much of the compacted topics the door has read."""

    @property
    def ready(self) -> bool:
        """Whether enough is known to decide by."""

    @property
    def catching_up(self) -> bool:
        """Whether what is unknown may only not have been read yet."""


Handler = Callable[[Scope, Exchange], Awaitable[Answer]]


class Routes:
    """The RSGI application."""

    def __init__(
        self,
        *,
        knowledge: Knowledge,
        access: Access,
        judge: Judge,
        sink: Sink,
        readiness: Readiness,
        body_reader: BodyReader,
        admission: Admission,
    ) -> None:
        self._knowledge = knowledge
        self._access = access
        self._judge = judge
        self._sink = sink
        self._readiness = readiness
        self._bodies = body_reader
        self._admission = admission
        self._samples = Samples()
        self._leaving = False
        self._draining = False
        self.in_flight = 0
        """Requests that have not been answered."""
        self._handlers: dict[str, dict[str, Handler]] = {
            "/v1/events": {"POST": self._events},
            "/v1/pixel.gif": {"GET": self._pixel},
            "/v1/serve": {"GET": self._serve},
            "/v1/rejections": {"GET": self._rejections},
            "/health": {"GET": self._health},
            "/ready": {"GET": self._ready},
            "/metrics": {"GET": self._metrics},
            **{f"/problems/{problem.name}": {"GET": _page_of(problem)} for problem in door_problems.ALL},
        }

    async def __rsgi__(self, scope: Scope, exchange: Exchange) -> None:
        """Answers one request, whatever happens."""
        self.in_flight += 1
        try:
            self._respond(scope, exchange, await self._answer(scope, exchange))
        finally:
            self.in_flight -= 1

    def leave(self) -> None:
        """From now on `/ready` says no, so that a balancer sends nothing more; all is served as before.

        Every answer closes its connection: who has kept one open is balanced anew.
        """
        self._leaving = True

    def drain(self) -> None:
        """From now on events are refused with 503: the door is about to stop."""
        self._draining = True

    def _respond(self, scope: Scope, exchange: Exchange, answer: Answer) -> None:
        route = scope.path if scope.path in self._handlers else "other"
        metrics.requests(route, answer.status).inc()
        headers = answer.headers
        origin = scope.headers.get("origin")
        if origin is not None:
            headers = [*headers, *_cors(origin, answer)]
        if self._leaving:
            headers = [*headers, _CLOSE]
        exchange.response_bytes(answer.status, headers, answer.body)

    async def _answer(self, scope: Scope, exchange: Exchange) -> Answer:
        try:
            return await self._handler(scope)(scope, exchange)
        except Refusal as refusal:
            metrics.REFUSALS.labels(refusal.problem.name).inc()
            is_pixel = scope.path == "/v1/pixel.gif" and scope.method == "GET"
            return answers.pixel_refused(refusal) if is_pixel else answers.problem(refusal)
        except Exception:  # the edge: a fault of ours must not lose the client's events
            metrics.UNEXPECTED.inc()
            log.exception("request.failed", path=scope.path, method=scope.method)
            return answers.problem(unavailable("the door failed; send the same request again"))

    def _handler(self, scope: Scope) -> Handler:
        by_method = self._handlers.get(scope.path)
        if by_method is None:
            raise Refusal(NOT_FOUND, "there is nothing here; events go to /v1/events")
        handler = by_method.get(scope.method)
        if handler is not None:
            return handler
        if scope.method == "OPTIONS":
            return self._preflight
        allow = ("allow", ", ".join([*by_method, "OPTIONS"]))
        raise Refusal(METHOD_NOT_ALLOWED, f"this path takes {', '.join(by_method)}", [allow])

    async def _events(self, scope: Scope, exchange: Exchange) -> Answer:
        headers = scope.headers
        now = time.time_ns() // 1_000_000
        key = self._admit_events(scope, now)
        with self._admission.hold(key.organization_id) as held:
            decoded = await self._decoded(exchange, headers, held)
            judgement = await self._take(decoded, key, scope, now)
        return answers.events_answer(judgement, minimal="return=minimal" in (headers.get("prefer") or ""))

    async def _decoded(self, exchange: Exchange, headers: HeaderMap, held: Held) -> Sequence[Decoded]:
        framing = bodies.framing_of(headers.get("content-type"))
        sent = await self._bodies.read(exchange, headers.get("content-length"), held.take)
        content = bodies.unpack(sent, headers.get("content-encoding"))
        held.take(len(content) - len(sent))
        try:
            return decode_events(content, framing)
        except BadBody as error:
            raise Refusal(MALFORMED_BODY, str(error)) from None
        except TooManyEvents as error:
            raise Refusal(TOO_LARGE, str(error)) from None

    async def _pixel(self, scope: Scope, _: Exchange) -> Answer:
        now = time.time_ns() // 1_000_000
        key = self._admit_events(scope, now)
        with self._admission.hold(key.organization_id):
            judgement = await self._take([pixel.event_of(scope.query_string)], key, scope, now)
        return answers.pixel(judgement.results[0])

    def _admit(self, scope: Scope, now: int) -> AccessKey:
        if self._draining:
            raise unavailable("this door is stopping")
        if not self._readiness.ready:
            raise unavailable("the door has not read its campaigns and keys yet")
        key = key_in(scope.headers, scope.query_string)
        origin = scope.headers.get("origin")
        return self._access.require(key, origin, now, catching_up=self._readiness.catching_up)

    def _admit_events(self, scope: Scope, now: int) -> AccessKey:
        """Who may send events, now: what can be refused without reading the body is refused here."""
        key = self._admit(scope, now)
        self._access.require_allowance(key)
        try:
            self._sink.require_room()
        except NotDurable as error:
            raise unavailable(str(error), error.retry_after) from None
        return key

    async def _take(self, decoded: Sequence[Decoded], key: AccessKey, scope: Scope, now: int) -> Judgement:
        """Judges the events and makes those that count durable."""
        self._access.spend(key, len(decoded))
        sender = self._access.sender(key, scope.headers, scope.client)
        judgement = self._judge.judge(decoded, sender, now=now, catching_up=self._readiness.catching_up)
        if judgement.stamped:
            started = time.perf_counter()
            try:
                await self._sink.store(judgement.stamped)
            except NotDurable as error:
                raise unavailable(str(error), error.retry_after) from None
            metrics.ACCEPT_SECONDS.observe(time.perf_counter() - started)
        self._count(judgement, key, now)
        return judgement

    def _count(self, judgement: Judgement, key: AccessKey, now: int) -> None:
        answered = Counter((result.status, result.reason or "") for result in judgement.results)
        for (status, reason), events in answered.items():
            metrics.events(status, reason).inc(events)
        for refused in judgement.refused:
            self._samples.keep(refused, key, now)

    async def _serve(self, scope: Scope, _: Exchange) -> Answer:
        now = time.time_ns() // 1_000_000
        key = self._admit(scope, now)
        asked = ",".join(parse_qs(scope.query_string).get("campaigns", ())).split(",")
        ids = dict.fromkeys(part.strip() for part in asked if part.strip())
        if not 0 < len(ids) <= MAX_EVENTS:
            raise Refusal(BAD_PARAMETER, f"campaigns takes 1 to {MAX_EVENTS} ids, separated by commas")
        content = {"campaigns": {campaign: self._serving(campaign, key, now) for campaign in ids}}
        answer = answers.json_answer(content)
        etag = f'"{blake2b(answer.body, digest_size=12).hexdigest()}"'
        headers = [("etag", etag), ("cache-control", "private, no-cache"), ("vary", "X-Write-Key")]
        if etag in (scope.headers.get("if-none-match") or ""):
            return Answer(HTTPStatus.NOT_MODIFIED, headers)
        return msgspec.structs.replace(answer, headers=[*answer.headers, *headers])

    def _serving(self, campaign_id: str, key: AccessKey, now: int) -> dict[str, Any]:
        state = self._knowledge.campaign_of(canonical_uuid(campaign_id) or campaign_id, key.organization_id)
        if state is None:
            return {"serve": False, "reason": Rejected.UNKNOWN_CAMPAIGN}
        reason = serving(state, self._knowledge.gates.get(state.campaign_id), now)
        return {"serve": False, "reason": reason} if reason else {"serve": True}

    async def _rejections(self, scope: Scope, _: Exchange) -> Answer:
        key = self._admit(scope, time.time_ns() // 1_000_000)
        if key.kind is not KeyKind.SERVER:
            raise Refusal(MISSING_SCOPE, "only a server key may look at refused events")
        return answers.json_answer({"rejections": self._samples.of(key.organization_id)})

    async def _preflight(self, scope: Scope, _: Exchange) -> Answer:
        """A browser sends no X-Write-Key with it, so only a key in the query can be held to its origins."""
        key = self._access.find(key_in(scope.headers, scope.query_string))
        origin = scope.headers.get("origin")
        if key is not None and origin is not None and not origin_allowed(key, origin):
            raise Refusal(ORIGIN_NOT_ALLOWED, "the key may not be used from this origin")
        return Answer(HTTPStatus.NO_CONTENT, _PREFLIGHT)

    async def _health(self, _scope: Scope, _: Exchange) -> Answer:
        return answers.json_answer({"status": "ok"})

    async def _ready(self, _scope: Scope, _: Exchange) -> Answer:
        if self._leaving or not self._readiness.ready:
            raise unavailable("the door is stopping, or has not read its campaigns and keys yet")
        trouble = self._sink.trouble
        content = {"status": "degraded", "detail": trouble} if trouble else {"status": "ready"}
        return answers.json_answer(content)

    async def _metrics(self, _scope: Scope, _: Exchange) -> Answer:
        return Answer(HTTPStatus.OK, [("content-type", CONTENT_TYPE_LATEST)], generate_latest())


def _page_of(problem: DoorProblem) -> Handler:
    answer = answers.text_answer(f"{problem.title} ({problem.status})\n\n{problem.advice}\n")

    async def page(_scope: Scope, _: Exchange) -> Answer:
        return answer

    return page


def _cors(origin: str, answer: Answer) -> Headers:
    if answer.status == HTTPStatus.FORBIDDEN:
        return [("vary", "Origin")]
    return [("access-control-allow-origin", origin), ("vary", "Origin"), _EXPOSED]
