"""Whether a decoded event may count, and what of it is kept: every rule that needs its sender or campaign."""

from datetime import UTC, datetime, timedelta

import msgspec

from ingest.domain.decode import data_depth
from ingest.domain.incoming import MAX_DATA_BYTES, MAX_DATA_DEPTH, Amount, IncomingEvent, Refused
from schemas.access_keys import AccessKey, KeyKind
from schemas.campaign_state import CampaignState
from schemas.events import NO_DATA
from schemas.ids import uuid7_millis
from schemas.money import MAX_COST_MICROS, MAX_REVENUE_MICROS, InvalidMoney, to_micros
from schemas.reasons import PricingModel, Rejected, Scope

OLDEST_MS = 7 * 86_400_000
NEWEST_MS = 5 * 60_000
ON_ITS_WAY_MS = 60_000
"""The snapshot of a campaign that was made this recently may not have reached the door yet."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Sender(msgspec.Struct, frozen=True, gc=False):
    """Who sends a request, as far as its events depend on it.

    `user_agent` and `country` are the request's own, empty for a server key; `private` is a request that asks
    not to be tracked (GPC, DNT).
    """

    key: AccessKey
    user_agent: str = ""
    country: str = ""
    private: bool = False

    @property
    def is_server(self) -> bool:
        """Whether the key is a secret one, whose word on costs, countries and revenue counts."""
        return self.key.kind is KeyKind.SERVER


class Checked(msgspec.Struct, frozen=True, gc=False):
    """What the checks of an event found out; money in micros, `occurred_at` in epoch ms on our clock."""

    occurred_at: int
    backfill: bool = False
    revenue: int = 0
    cost: int = 0
    data: msgspec.Raw = NO_DATA


class _Refusal(Exception):
    def __init__(self, reason: Rejected, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def check(event: IncomingEvent, sender: Sender, campaign: CampaignState, now: int) -> Checked | Refused:
    """All rules in order; the first one that is broken refuses the event. `now` is its receivedAt."""
    try:
        occurred_at, backfill = _occurred_at(event, sender.key, now)
        return Checked(
            occurred_at=occurred_at,
            backfill=backfill,
            revenue=_money(event.revenue, "revenue", campaign, MAX_REVENUE_MICROS) if event.revenue else 0,
            cost=_cost(event.cost, sender.key, campaign) if event.cost else 0,
            data=_data(event.data) if event.data else NO_DATA,
        )
    except _Refusal as refusal:
        return Refused(refusal.reason, refusal.detail, event.event_id)


def may_be_on_its_way(campaign_id: str, now: int) -> bool:
    """Whether an unknown campaign was made so recently that it may still become known."""
    made_at = uuid7_millis(campaign_id)
    return made_at is not None and abs(now - made_at) <= ON_ITS_WAY_MS


def _occurred_at(event: IncomingEvent, key: AccessKey, now: int) -> tuple[int, bool]:
    """The client's time on our clock, and whether it is older than what budgets take."""
    if event.occurred_at is None:
        return now, False
    occurred_at = _millis(event.occurred_at)
    if event.sent_at is not None:
        occurred_at += now - _millis(event.sent_at)
    if occurred_at > now + NEWEST_MS:
        raise _Refusal(Rejected.IN_FUTURE, "occurredAt is more than 5 minutes ahead")
    if occurred_at >= now - OLDEST_MS:
        return occurred_at, False
    if Scope.BACKFILL not in key.scopes:
        raise _Refusal(
            Rejected.TOO_OLD, f"occurredAt is more than 7 days ago; that needs the scope {Scope.BACKFILL}"
        )
    if occurred_at < 0:
        raise _Refusal(Rejected.TOO_OLD, "occurredAt is before 1970")
    return occurred_at, True


def _millis(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


def _money(amount: Amount, name: str, campaign: CampaignState, most: int) -> int:
    if amount.currency is not None and amount.currency != campaign.currency:
        raise _Refusal(Rejected.WRONG_CURRENCY, f"{name} must be in {campaign.currency}")
    try:
        micros = to_micros(amount.amount, most=most)
    except InvalidMoney as error:
        raise _Refusal(Rejected.MALFORMED, f"{name}: {error}") from None
    if micros < 0:
        raise _Refusal(Rejected.MALFORMED, f"{name} must not be negative")
    return micros


def _cost(amount: Amount, key: AccessKey, campaign: CampaignState) -> int:
    if Scope.COST not in key.scopes:
        raise _Refusal(Rejected.MISSING_SCOPE, f"cost needs the scope {Scope.COST}")
    if campaign.pricing.model is not PricingModel.EVENT:
        raise _Refusal(
            Rejected.MALFORMED, f"cost is for campaigns priced by EVENT; this one is {campaign.pricing.model}"
        )
    return _money(amount, "cost", campaign, MAX_COST_MICROS)


def _data(raw: msgspec.Raw) -> msgspec.Raw:
    content = bytes(raw)
    if content == b"null":
        return NO_DATA
    if content[:1] != b"{":
        raise _Refusal(Rejected.MALFORMED, "data must be an object")
    if len(content) > MAX_DATA_BYTES:
        raise _Refusal(Rejected.TOO_LARGE, f"data has at most {MAX_DATA_BYTES} bytes")
    if content.count(b"{") + content.count(b"[") > MAX_DATA_DEPTH and data_depth(content) > MAX_DATA_DEPTH:
        raise _Refusal(Rejected.MALFORMED, f"data is nested at most {MAX_DATA_DEPTH} deep")
    if b"\n" in content or b"\r" in content:
        # A record holds a line for each event.
        return msgspec.Raw(msgspec.json.format(content, indent=-1))
    return msgspec.Raw(content)
