"""The body of `POST /v1/events`, from its first byte to the answer."""

from collections.abc import Callable, Sequence
from typing import Protocol

from ingest import answers, bodies
from ingest.admission import Held
from ingest.domain.decode import BadBody, Decoded, TooManyEvents, decode_events
from ingest.domain.judge import Judgement
from ingest.errors import NotDurable, Refusal, unavailable
from ingest.http.message import Answer, Request
from schemas.access_keys import AccessKey
from schemas.door_problems import MALFORMED_BODY, TOO_LARGE, TOO_SLOW

Taken = Callable[[Judgement, NotDurable | None], None]
"""Told when the events that count are durable, or why not all of them are known to be."""


class Desk(Protocol):
    """Who takes the events, and sends the answers."""

    def take(
        self, decoded: Sequence[Decoded], key: AccessKey, request: Request, now: int, done: Taken
    ) -> None:
        """Calls `done` when those that count are durable, or can't be. Raises Refusal."""

    def answer(self, request: Request, answer: Answer) -> None:
        """Answers."""

    def fail(self, request: Request, error: Exception) -> None:
        """Answers with the refusal."""

    def abandon(self, error: Refusal) -> None:
        """Nobody is there to get an answer."""


class EventBody:
    """Reads the body within what the request may hold, hands its events over, and answers for them.

    Raises Refusal when the head says enough to refuse it; `held` is given back in any case.
    """

    __slots__ = ("_body", "_desk", "_framing", "_held", "_key", "_now", "_request")

    def __init__(self, desk: Desk, request: Request, key: AccessKey, held: Held, now: int) -> None:
        headers = request.headers
        self._desk = desk
        self._request = request
        self._key = key
        self._held = held
        self._now = now
        try:
            self._framing = bodies.framing_of(headers.get("content-type"))
            self._body = bodies.Body(headers.get("content-length"), held.take)
        except Refusal:
            held.release()
            raise

    def take(self, piece: bytes) -> None:
        """More of it."""
        try:
            self._body.add(piece)
        except Exception as error:  # noqa: BLE001  the edge: it is answered as what it is
            self._fail(error)

    def complete(self) -> None:
        """All of it is there."""
        try:
            self._desk.take(self._decoded(), self._key, self._request, self._now, self._done)
        except Exception as error:  # noqa: BLE001  as above
            self._fail(error)

    def too_slow(self) -> None:
        """It did not come in time."""
        self._fail(Refusal(TOO_SLOW, "the body was not sent in time"))

    def broke_off(self) -> None:
        """Its sender is gone."""
        self._held.release()
        self._desk.abandon(Refusal(MALFORMED_BODY, "the body broke off"))

    def _decoded(self) -> Sequence[Decoded]:
        sent = self._body.received
        content = bodies.unpack(sent, self._request.headers.get("content-encoding"))
        if content is not sent:
            self._held.take(len(content) - len(sent))
        try:
            return decode_events(content, self._framing)
        except BadBody as error:
            raise Refusal(MALFORMED_BODY, str(error)) from None
        except TooManyEvents as error:
            raise Refusal(TOO_LARGE, str(error)) from None

    def _done(self, judgement: Judgement, error: NotDurable | None) -> None:
        if error is not None:
            self._fail(unavailable(str(error), error.retry_after))
            return
        self._held.release()
        prefer = self._request.headers.get("prefer") or ""
        self._desk.answer(self._request, answers.events_answer(judgement, minimal="return=minimal" in prefer))

    def _fail(self, error: Exception) -> None:
        self._held.release()
        self._desk.fail(self._request, error)
