"""Streams of metrics: one look at the ledger for all campaigns that are followed, whoever follows them.

A stream has no queue: it is woken when there is something new, and sends what is newest then. Who reads
slowly gets fewer events, never older ones.
"""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

import msgspec
import structlog

from control_api import metrics
from control_api.domain.live import LiveCampaign, Picture, Told, picture_of
from control_api.errors import TooManyStreams, Unavailable
from control_api.handlers.ports import Clock
from control_api.life import Life

log = structlog.get_logger(__name__)

MOST, MOST_OF_ONE = 1_000, 100
"""Streams of this process, and of one organization among them."""

_LOOK_SECONDS = 0.25
_RETRY_SECONDS = 1.0
_HEARTBEAT_SECONDS = 15.0
_ASKED_AGAIN = timedelta(seconds=3)
Still = Callable[[], Awaitable[bool]]
"""Whether who follows may still do so: users are deactivated and keys revoked while they look on."""


class Campaigns(Protocol):
    """Campaigns with their accounts."""

    async def read(self, ids: Iterable[str]) -> dict[str, LiveCampaign]:
        """Those that are there. Raises Unavailable."""


class End(StrEnum):
    """Why a stream ends."""

    DELETED = "deleted"
    TOKEN_EXPIRED = "token-expired"  # noqa: S105  no secret
    STOPPING = "stopping"
    TOO_MANY = "too-many-streams"


class News(msgspec.Struct, frozen=True):
    """What is sent next: a picture (with `told`, what the client knew before), an end, or a heartbeat when
    neither is there."""

    picture: Picture | None = None
    told: Told = Told()
    end: End | None = None


class _Follower:
    def __init__(self, organization_id: str) -> None:
        self.organization_id = organization_id
        self.woken = asyncio.Event()


class Streams:
    """All streams of this process; `run` looks for all of them."""

    def __init__(self, campaigns: Campaigns, clock: Clock, life: Life) -> None:
        self._campaigns = campaigns
        self._clock = clock
        self._life = life
        self._followers: dict[str, set[_Follower]] = defaultdict(set)
        self._pictures: dict[str, Picture | None] = {}
        """None: the campaign is gone."""
        self._seen: dict[str, tuple[LiveCampaign, bool]] = {}
        self._count: Counter[str] = Counter()
        self._wanted = asyncio.Event()

    def require_room(self, organization_id: str) -> None:
        """Raises TooManyStreams for the organization; Unavailable without room, or when the process ends."""
        if self._life.stopping:
            raise Unavailable("this process is stopping; connect again")
        if self._count[organization_id] >= MOST_OF_ONE:
            raise TooManyStreams(f"an organization follows at most {MOST_OF_ONE} campaigns at once")
        if self._count.total() >= MOST:
            raise Unavailable("too many streams are open; connect again later")

    async def follow(
        self, organization_id: str, campaign_id: str, told: Told, until: datetime | None, still: Still
    ) -> AsyncGenerator[News, None]:
        """What is new of a campaign to somebody who knows `told`, until its token ends, or the campaign, or
        the process. `still` is asked before something is sent, at most every few seconds."""
        try:
            self.require_room(organization_id)
        except (TooManyStreams, Unavailable):
            yield News(end=End.TOO_MANY)
            return
        asked = self._clock()
        with self._following(organization_id, campaign_id) as follower:
            while True:
                end = self._end(campaign_id, until)
                if end is None and self._clock() - asked >= _ASKED_AGAIN:
                    end, asked = None if await still() else End.TOKEN_EXPIRED, self._clock()
                if end is not None:
                    yield News(end=end)
                    return
                picture = self._pictures.get(campaign_id)
                if picture is not None and picture.told != told:
                    yield News(picture, told)
                    told = picture.told
                elif not await self._is_woken(follower, until) and not self._end(campaign_id, until):
                    yield News()

    async def run(self) -> None:
        """Looks, as long as somebody follows anything, until cancelled."""
        while True:
            await self._wanted.wait()
            try:
                await self._look()
            except Unavailable:
                await asyncio.sleep(_RETRY_SECONDS)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self) -> None:
        ids = list(self._followers)
        if not ids:
            self._wanted.clear()
            return
        if self._life.stopping:
            self._wake(ids)
            return
        found, now = await self._campaigns.read(ids), self._clock()
        for campaign_id in ids:
            if campaign_id not in self._followers:
                continue
            campaign = found.get(campaign_id)
            seen = (campaign, now < campaign.start_date) if campaign else None
            if seen is None or self._seen.get(campaign_id) != seen:
                self._pictures[campaign_id] = picture_of(campaign, now) if campaign else None
                self._wake([campaign_id])
            if seen is not None:
                self._seen[campaign_id] = seen

    def _wake(self, ids: Iterable[str]) -> None:
        for campaign_id in ids:
            for follower in self._followers.get(campaign_id, ()):
                follower.woken.set()

    @contextlib.contextmanager
    def _following(self, organization_id: str, campaign_id: str) -> Iterator[_Follower]:
        follower = _Follower(organization_id)
        self._followers[campaign_id].add(follower)
        self._count[organization_id] += 1
        self._wanted.set()
        metrics.STREAMS.inc()
        try:
            yield follower
        finally:
            metrics.STREAMS.dec()
            self._count[organization_id] -= 1
            self._followers[campaign_id].discard(follower)
            if not self._followers[campaign_id]:
                del self._followers[campaign_id]
                self._pictures.pop(campaign_id, None)
                self._seen.pop(campaign_id, None)

    def _end(self, campaign_id: str, until: datetime | None) -> End | None:
        if self._life.stopping:
            return End.STOPPING
        if until is not None and until <= self._clock():
            return End.TOKEN_EXPIRED
        if campaign_id in self._pictures and self._pictures[campaign_id] is None:
            return End.DELETED
        return None

    async def _is_woken(self, follower: _Follower, until: datetime | None) -> bool:
        """Waits for something new; False when it is time for a heartbeat, or for the end."""
        seconds = _HEARTBEAT_SECONDS
        if until is not None:
            seconds = min(seconds, max(0.0, (until - self._clock()).total_seconds()))
        follower.woken.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(follower.woken.wait(), seconds)
        return follower.woken.is_set()
