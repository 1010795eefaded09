"""The control API as the demo uses it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

from compose.errors import ComposeError

_TIMEOUT = aiohttp.ClientTimeout(total=15)
_LOWEST_ERROR = 400


class ApiRefused(ComposeError):
    """The control API refused what was asked."""


class Money(msgspec.Struct, frozen=True):
    """Money as the API shows it."""

    amount: Decimal
    currency: str


class Metrics(msgspec.Struct, frozen=True, rename="camel"):
    """The part of a campaign's metrics that is shown here."""

    impressions: int
    clicks: int
    conversions: int
    cost: Money
    overdelivery_cost: Money
    ctr: Decimal | None
    unbilled: dict[str, int]


class Campaign(msgspec.Struct, frozen=True, rename="camel"):
    """The part of a campaign that is needed here."""

    id: str
    name: str
    status: str
    status_reason: str | None
    budget: Money | None
    metrics: Metrics | None = None


_campaigns = msgspec.json.Decoder(Campaign, strict=False)
_metrics = msgspec.json.Decoder(Metrics, strict=False)


class ControlApi:
    """A client with an admin's token. Use as an async context manager; raises ApiRefused with the problem's
    own words, and aiohttp's errors when the API can't be reached."""

    def __init__(self, url: str, token: str) -> None:
        self._url = f"{url}/api/v1/campaigns"
        self._token = token

    async def __aenter__(self) -> Self:
        headers = {"Authorization": f"Bearer {self._token}"}
        self._session = aiohttp.ClientSession(headers=headers, timeout=_TIMEOUT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def create(
        self, name: str, pricing: dict[str, Any], budget: Decimal | None = None, currency: str = "EUR"
    ) -> Campaign:
        """A new DRAFT for the web that would run for a month from tomorrow."""
        now = datetime.now(UTC)
        body: dict[str, Any] = {
            "name": name,
            "type": "PROMOTION",
            "targetingRules": ["everyone"],
            "startDate": (now + timedelta(days=1)).isoformat(),
            "endDate": (now + timedelta(days=31)).isoformat(),
            "settings": {"channels": ["WEB"], "frequency": "DAILY", "pricing": pricing},
        }
        if budget is not None:
            body["budget"] = {"amount": budget, "currency": currency}
        return _campaigns.decode(await self._ask("POST", "", body))

    async def activate(self, campaign_id: str, **options: bool) -> Campaign:
        """Starts or resumes it; `startNow`, `acknowledgeBudget`."""
        return _campaigns.decode(await self._ask("POST", f"/{campaign_id}/activate", options))

    async def get(self, campaign_id: str) -> Campaign:
        return _campaigns.decode(await self._ask("GET", f"/{campaign_id}"))

    async def metrics(self, campaign_id: str) -> Metrics:
        return _metrics.decode(await self._ask("GET", f"/{campaign_id}/metrics"))

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        data = None if body is None else msgspec.json.Encoder(decimal_format="number").encode(body)
        headers = {"Content-Type": "application/json"} if data is not None else {}
        async with self._session.request(method, self._url + path, data=data, headers=headers) as response:
            answer = await response.read()
        if response.status >= _LOWEST_ERROR:
            raise ApiRefused(
                f"{method} {self._url}{path}: {response.status} {answer.decode(errors='replace')}"
            )
        return answer


def pricing(model: str, amount: str = "0", currency: str = "EUR") -> dict[str, Any]:
    """A campaign's `settings.pricing`."""
    return {"model": model, "price": {"amount": Decimal(amount), "currency": currency}}
