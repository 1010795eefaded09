"""How soon a door obeys the control API: `python -m tests.bench.obedience --ready-file FILE [--times N]`.

Against a running `flightline up`. Each change is timed from the API's answer to the first answer of the door
that obeys it; the smallest value is what one look at the door takes.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from compose.demo.control import ControlApi, pricing
from compose.ready import Ready
from schemas.ids import new_id

_GIVE_UP_S = 15
_LOOK_EVERY_S = 0.001
_UNAUTHORIZED = 401


async def seconds_until(holds: Callable[[], Awaitable[bool]]) -> float:
    started = time.perf_counter()
    async with asyncio.timeout(_GIVE_UP_S):
        while not await holds():
            await asyncio.sleep(_LOOK_EVERY_S)
    return time.perf_counter() - started


class Bench:
    """A marketer who changes things and, at once, a visitor who looks whether the door obeys."""

    def __init__(self, ready: Ready, api: ControlApi, http: aiohttp.ClientSession) -> None:
        self._ready = ready
        self._api = api
        self._http = http
        self.taken: dict[str, list[float]] = {}

    async def measure_once(self) -> None:
        """Activates and pauses a campaign, makes and revokes a key."""
        campaign = await self._api.create(f"obedience {new_id()}", pricing("CPM", "1"))
        await self._api.activate(campaign.id, startNow=True)
        self._took("activated", await seconds_until(lambda: self._serves(campaign.id)))
        await self._ask("POST", f"/campaigns/{campaign.id}/pause", {})
        self._took("paused", await seconds_until(lambda: self._refuses(campaign.id)))
        made = await self._ask("POST", "/api-keys", {"kind": "publishable", "name": "obedience"})
        self._took("key made", await seconds_until(lambda: self._opens(made["key"])))
        await self._ask("DELETE", f"/api-keys/{made['id']}")
        self._took("key revoked", await seconds_until(lambda: self._is_refused(made["key"])))

    def _took(self, what: str, seconds: float) -> None:
        self.taken.setdefault(what, []).append(seconds)

    async def _serves(self, campaign_id: str) -> bool:
        answer = await self._serving(campaign_id, self._ready.write_key)
        return bool(answer["campaigns"][campaign_id]["serve"])

    async def _refuses(self, campaign_id: str) -> bool:
        return not await self._serves(campaign_id)

    async def _opens(self, key: str) -> bool:
        return "campaigns" in await self._serving(new_id(), key)

    async def _is_refused(self, key: str) -> bool:
        return bool((await self._serving(new_id(), key)).get("status") == _UNAUTHORIZED)

    async def _serving(self, campaign_id: str, key: str) -> Any:
        parameters = {"campaigns": campaign_id, "key": key}
        async with self._http.get(f"{self._ready.ingest}/v1/serve", params=parameters) as answer:
            return msgspec.json.decode(await answer.read())

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        headers = {"Authorization": f"Bearer {self._ready.admin_token}"}
        url = f"{self._ready.control_api}/api/v1{path}"
        async with self._http.request(method, url, json=body, headers=headers) as answer:
            content = await answer.read()
            assert answer.ok, content
            return msgspec.json.decode(content) if content else None


async def run(ready: Ready, times: int) -> None:
    async with aiohttp.ClientSession() as http, ControlApi(ready.control_api, ready.admin_token) as api:
        bench = Bench(ready, api, http)
        for _ in range(times):
            await bench.measure_once()
    for what, taken in bench.taken.items():
        milliseconds = [seconds * 1e3 for seconds in taken]
        print(  # noqa: T201  its output
            f"{what:<12} {len(taken)} times: min {min(milliseconds):.1f} ms, "
            f"median {statistics.median(milliseconds):.1f} ms, max {max(milliseconds):.1f} ms"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ready-file", type=Path, default=Path(".flightline/ready.json"))
    parser.add_argument("--times", type=int, default=50)
    options = parser.parse_args()
    asyncio.run(run(msgspec.json.decode(options.ready_file.read_bytes(), type=Ready), options.times))


if __name__ == "__main__":
    main()
