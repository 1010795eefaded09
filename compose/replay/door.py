"""The door as a client sees it: one attempt to send a batch, and which campaigns are open."""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from types import TracebackType
from typing import Self

import aiohttp
import msgspec

from compose.replay.errors import DoorRefused
from compose.replay.plan import OutgoingEvent

_TIMEOUT = aiohttp.ClientTimeout(total=30)
_RETRYABLE = frozenset({429, 500, 502, 503, 504})
_ANSWERED = frozenset({202, 422})
_NOT_MODIFIED_OR_WORSE = 300
_CAMPAIGNS_PER_QUESTION = 50


class Status(StrEnum):
    """What the door says of one event."""

    ACCEPTED = "accepted"
    UNBILLED = "unbilled"
    REJECTED = "rejected"
    RETRY = "retry"


class Result(msgspec.Struct, frozen=True):
    """The answer to one event. `serve` tells whether its campaign is still to be shown."""

    status: Status
    reason: str = ""
    detail: str = ""
    serve: bool = True


class Serving(msgspec.Struct, frozen=True):
    """Whether a campaign is open, and why not."""

    serve: bool
    reason: str = ""


class NotNow(Exception):
    """The door can't say: all of it is to be sent again, after `retry_after` seconds when it named them."""

    def __init__(self, why: str, retry_after: float | None = None) -> None:
        super().__init__(why)
        self.retry_after = retry_after


class _Results(msgspec.Struct, frozen=True):
    results: list[Result]


class _Campaigns(msgspec.Struct, frozen=True):
    campaigns: dict[str, Serving]


_results = msgspec.json.Decoder(_Results)
_campaigns = msgspec.json.Decoder(_Campaigns)


class Door:
    """A client of one door. Use as an async context manager."""

    def __init__(self, url: str, key: str, connections: int) -> None:
        self._url = url.rstrip("/")
        self._key = key
        self._connections = connections

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections),
            timeout=_TIMEOUT,
            headers={"X-Write-Key": self._key, "User-Agent": "flightline-replay"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def send(self, events: Sequence[OutgoingEvent]) -> list[Result]:
        """The results of one attempt, in the order of `events`.

        Raises NotNow when it must be sent again (with the same ids), DoorRefused when that would not help.
        """
        body = b"[" + b",".join(event.body for event in events) + b"]"
        headers = {"Content-Type": "application/json"}
        status, answer = await self._request("POST", "/v1/events", data=body, headers=headers)
        try:
            results = _results.decode(answer).results
        except msgspec.MsgspecError as error:
            raise DoorRefused(f"{self._url} does not answer as a door does ({status}): {error}.") from error
        if len(results) != len(events):
            raise DoorRefused(f"{self._url} gave {len(results)} results for {len(events)} events.")
        return results

    async def serving(self, campaign_ids: Iterable[str]) -> dict[str, Serving]:
        """Whether each campaign is open. Raises NotNow and DoorRefused as `send` does."""
        ids = sorted(campaign_ids)
        found: dict[str, Serving] = {}
        for start in range(0, len(ids), _CAMPAIGNS_PER_QUESTION):
            asked = ",".join(ids[start : start + _CAMPAIGNS_PER_QUESTION])
            _, answer = await self._request("GET", "/v1/serve", params={"campaigns": asked})
            try:
                found |= _campaigns.decode(answer).campaigns
            except msgspec.MsgspecError as error:
                raise DoorRefused(f"{self._url}/v1/serve does not answer as a door does: {error}.") from error
        return found

    async def _request(
        self,
        method: str,
        path: str,
        *,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
        params: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        try:
            async with self._session.request(
                method, self._url + path, data=data, headers=headers, params=params
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NotNow(f"{self._url}: {error or type(error).__name__}") from error
        if response.status in _RETRYABLE:
            raise NotNow(
                f"{self._url} answered {response.status}", _seconds(response.headers.get("Retry-After"))
            )
        if response.status not in _ANSWERED and response.status >= _NOT_MODIFIED_OR_WORSE:
            text = answer[:500].decode(errors="replace").strip()
            raise DoorRefused(f"{self._url}{path} answered {response.status}: {text}")
        return response.status, answer


def _seconds(header: str | None) -> float | None:
    try:
        return None if header is None else max(0.0, float(header))
    except ValueError:
        return None
