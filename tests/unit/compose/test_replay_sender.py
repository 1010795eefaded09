"""Sending against a real HTTP server: retries keep ids, closed campaigns are held, skipped or stop it."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from compose.replay.door import Door, Result
from compose.replay.errors import DoorAway, DoorRefused
from compose.replay.gates import OnClosed
from compose.replay.held import HeldEvents
from compose.replay.pacer import Pacer
from compose.replay.plan import OutgoingEvent, Plan, events_of
from compose.replay.promises import Promise, PromisesFile
from compose.replay.sender import Observer, Options, Sender, Stopped

A = "01930000-0000-7000-8000-00000000000a"
B = "01930000-0000-7000-8000-00000000000b"

Answer = Callable[[list[dict[str, Any]]], web.Response]


def events(campaign: str, count: int, first: int = 1) -> list[OutgoingEvent]:
    plan = Plan(file_sha256="aa", campaign=campaign)
    return [events_of(plan, {}, number)[0] for number in range(first, first + count)]


def results(sent: list[dict[str, Any]], **fields: Any) -> web.Response:
    one = {"status": "accepted", "serve": True, **fields}
    return web.json_response(
        {"results": [{"eventId": event["eventId"], **one} for event in sent]}, status=202
    )


class Kept:
    """What the observer was told."""

    def __init__(self) -> None:
        self.answers: list[tuple[OutgoingEvent, Result]] = []
        self.skipped: list[OutgoingEvent] = []
        self.retried = 0

    def observer(self) -> Observer:
        return Observer(self.answers.extend, lambda event, _: self.skipped.append(event), self._retried)

    def _retried(self, count: int) -> None:
        self.retried += count


@asynccontextmanager
async def serve(answer: Answer, serving: Callable[[str], dict[str, Any]] | None = None) -> AsyncIterator[str]:
    """A door of a few lines on a free port."""

    async def post(request: web.Request) -> web.Response:
        return answer(msgspec.json.decode(await request.read()))

    async def get(request: web.Request) -> web.Response:
        assert serving is not None
        return web.json_response(
            {"campaigns": {c: serving(c) for c in request.query["campaigns"].split(",")}}
        )

    app = web.Application()
    app.router.add_post("/v1/events", post)
    app.router.add_get("/v1/serve", get)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def send(url: str, queue: Iterator[OutgoingEvent], kept: Kept, **options: Any) -> None:
    async with Door(url, "key", 8) as door, asyncio.timeout(20):
        await Sender(door, Options(**options), kept.observer()).run(queue)


async def test_refusals_of_whole_requests_are_sent_again_with_the_same_ids() -> None:
    seen: Counter[str] = Counter()

    def answer(sent: list[dict[str, Any]]) -> web.Response:
        seen.update(event["eventId"] for event in sent)
        if max(seen.values()) == 1:
            return web.Response(status=503, headers={"Retry-After": "0.01"})
        return results(sent)

    kept = Kept()
    async with serve(answer) as url:
        await send(url, iter(events(A, 10)), kept, batch=10)
    assert len(kept.answers) == 10
    assert set(seen.values()) == {2}
    assert kept.retried == 10


async def test_an_event_answered_retry_is_sent_again_alone() -> None:
    requests: list[list[str]] = []

    def answer(sent: list[dict[str, Any]]) -> web.Response:
        requests.append([event["eventId"] for event in sent])
        statuses = ["retry" if len(requests) == 1 and i == 1 else "accepted" for i in range(len(sent))]
        return web.json_response({"results": [{"status": status} for status in statuses]}, status=202)

    kept = Kept()
    sent = events(A, 3)
    async with serve(answer) as url:
        await send(url, iter(sent), kept, batch=3)
    assert requests == [[event.event_id for event in sent], [sent[1].event_id]]
    assert {event.event_id for event, _ in kept.answers} == {event.event_id for event in sent}


async def test_wait_holds_a_closed_campaign_back_in_order_while_others_go_on() -> None:
    is_open = asyncio.Event()
    order: list[tuple[str, int]] = []
    numbers = {event.event_id: n for c in (A, B) for n, event in enumerate(events(c, 200))}

    def answer(sent: list[dict[str, Any]]) -> web.Response:
        order.extend((event["campaignId"], numbers[event["eventId"]]) for event in sent)
        b_is_through = sum(campaign == B for campaign, _ in order) == 200
        if b_is_through:
            is_open.set()
        closed = sent[0]["campaignId"] == A and not is_open.is_set()
        return results(sent, status="unbilled", reason="BUDGET_90", serve=False) if closed else results(sent)

    kept = Kept()
    mixed = itertools.chain.from_iterable(zip(events(A, 200), events(B, 200), strict=True))
    async with serve(answer, lambda _: {"serve": is_open.is_set(), "reason": "BUDGET_90"}) as url:
        await send(url, mixed, kept, batch=1, in_flight=1, on_closed=OnClosed.WAIT)
    assert len(order) == len(set(order)) == 400, "each event is sent once, promised ones never again"
    assert [number for campaign, number in order if campaign == A] == list(range(200))
    last_b = max(place for place, (campaign, _) in enumerate(order) if campaign == B)
    assert sum(campaign == A for campaign, _ in order[:last_b]) < 10


async def test_wait_does_not_wait_for_a_campaign_that_can_not_open_again() -> None:
    kept = Kept()
    reason = iter(["BUDGET_90"])

    def answer(sent: list[dict[str, Any]]) -> web.Response:
        return results(sent, status="unbilled", reason=next(reason, "BUDGET_100"), serve=False)

    async with serve(answer, lambda _: {"serve": False, "reason": "BUDGET_100"}) as url:
        await send(url, iter(events(A, 50)), kept, batch=5, in_flight=1, on_closed=OnClosed.WAIT)
    assert len(kept.answers) == 50


async def test_skip_leaves_out_what_comes_while_a_campaign_is_closed() -> None:
    def answer(sent: list[dict[str, Any]]) -> web.Response:
        return results(sent, status="unbilled", reason="PAUSED", serve=False)

    kept = Kept()
    async with serve(answer, lambda _: {"serve": False, "reason": "PAUSED"}) as url:
        await send(url, iter(events(A, 20)), kept, batch=1, in_flight=1, on_closed=OnClosed.SKIP)
    assert len(kept.answers) + len(kept.skipped) == 20
    assert kept.skipped


async def test_stop_ends_the_replay_once_what_is_in_flight_is_answered() -> None:
    def answer(sent: list[dict[str, Any]]) -> web.Response:
        return results(sent, status="unbilled", reason="PAUSED", serve=False)

    kept = Kept()
    async with serve(answer, lambda _: {"serve": False, "reason": "PAUSED"}) as url:
        with pytest.raises(Stopped, match="PAUSED"):
            await send(url, iter(events(A, 100)), kept, batch=1, in_flight=1, on_closed=OnClosed.STOP)
    assert 1 <= len(kept.answers) < 10


async def test_a_wrong_key_ends_it_at_once_and_a_door_that_is_away_in_the_end() -> None:
    async with serve(lambda _: web.Response(status=401, text="unknown key")) as url:
        with pytest.raises(DoorRefused, match="unknown key"):
            await send(url, iter(events(A, 1)), Kept())
    with pytest.raises(DoorAway):
        await send(url, iter(events(A, 1)), Kept(), patience_s=0.3)


def test_held_events_come_out_in_order_beyond_what_memory_keeps() -> None:
    held = HeldEvents()
    body = b"x" * 10_000
    sent = [msgspec.structs.replace(event, body=body) for event in events(A, 1_500)]
    for event in sent[:1_000]:
        held.append(event)
    taken = held.take(300)
    for event in sent[1_000:]:
        held.append(event)
    while len(held):
        taken += held.take(300)
    assert [event.event_id for event in taken] == [event.event_id for event in sent]
    held.close()


def test_the_pace_is_the_clocks_and_a_long_hold_up_is_not_made_up_for() -> None:
    pacer = Pacer(100)
    assert pacer.delay(50, now=10.0) == 0.0
    assert pacer.delay(50, now=10.1) == pytest.approx(0.4)
    assert pacer.delay(50, now=100.0) == 0.0
    assert pacer.delay(50, now=100.0) == 0.0, "half a second of lag is made up for"
    assert pacer.delay(50, now=100.0) == 0.0
    assert pacer.delay(50, now=100.0) == pytest.approx(0.5)
    assert Pacer(None).delay(1_000_000, now=0.0) == 0.0


def test_promises_are_lines_that_outlive_a_killed_writer(tmp_path: Path) -> None:
    file = tmp_path / "promises"
    file.write_bytes(b'{"eventId":"cut o')
    promises = PromisesFile(file)
    (event,) = events(A, 1)
    promises.append([(event, msgspec.convert({"status": "unbilled", "reason": "BOT"}, Result))])
    lines = file.read_bytes().splitlines()
    assert msgspec.json.decode(lines[1], type=Promise) == Promise(
        event.event_id, A, event.type, 0, "unbilled", "BOT"
    )
    promises.close()


async def test_a_door_that_stops_making_sense_ends_a_replay_that_waits() -> None:
    def answer(sent: list[dict[str, Any]]) -> web.Response:
        return results(sent, status="unbilled", reason="PAUSED", serve=False)

    async with serve(answer, lambda _: {"serve": "perhaps"}) as url:
        with pytest.raises(DoorRefused, match="does not answer as a door does"):
            await send(url, iter(events(A, 50)), Kept(), batch=1, in_flight=1, on_closed=OnClosed.WAIT)
