"""What the log carries of an event: all that depends on the moment is decided and written down here."""

from collections.abc import Callable

from ingest.domain.gate import Verdict
from ingest.domain.incoming import IncomingEvent
from ingest.domain.validate import Checked, Sender
from schemas.campaign_state import CampaignState, Pricing
from schemas.events import TrackingEvent
from schemas.ids import new_id
from schemas.reasons import EventType, PricingModel, Unbilled

_PER_THOUSAND = 1_000


class Stamp:
    """Stamps the events of one request, received at `now` (epoch ms).

    The user agent and the country of a person: a server names them in each event, its own header says nothing
    about them; a browser's are those of its request, whatever its events say.
    """

    __slots__ = ("_country", "_from_server", "_is_bot", "_now", "_private", "_sent_by_bot", "_user_agent")

    def __init__(self, sender: Sender, now: int, is_bot: Callable[[str], bool]) -> None:
        self._now = now
        self._is_bot = is_bot
        self._private = sender.private
        self._from_server = sender.is_server
        self._user_agent = sender.user_agent
        self._country = sender.country
        self._sent_by_bot = not self._from_server and is_bot(sender.user_agent)

    def stamped(
        self, event: IncomingEvent, checked: Checked, campaign: CampaignState, verdict: Verdict
    ) -> TrackingEvent:
        """The event as it goes to the log."""
        user_agent, country, by_bot = self._user_agent, self._country, self._sent_by_bot
        if self._from_server:
            user_agent, country = event.user_agent or "", (event.country or "").upper()
            by_bot = self._is_bot(user_agent)
        reason = unbilled_reason(verdict, is_bot=by_bot, backfill=checked.backfill)
        cost, flat = (0, False) if reason else cost_of(campaign.pricing, event.type, checked.cost)
        private = self._private
        return TrackingEvent(  # in the order of its fields: names would cost half as much again
            event.event_id or new_id(),
            campaign.organization_id,
            campaign.campaign_id,
            event.type,
            self._now,
            checked.occurred_at,
            campaign.currency,
            campaign.budget_version,
            reason is None,
            cost,
            flat,
            reason,
            "" if private else event.visitor_id or "",
            "" if private else event.customer_id or "",
            event.click_id or "",
            event.variant or "",
            event.channel or "",
            event.placement or "",
            country,
            _url(event.url, private=private),
            _url(event.referrer, private=private),
            user_agent,
            checked.revenue,
            self._from_server and event.revenue is not None,
            checked.data,
        )


def unbilled_reason(verdict: Verdict, *, is_bot: bool, backfill: bool) -> Unbilled | None:
    """Why the event costs nothing; None when it is billable. A bot is one whatever its campaign does."""
    if is_bot:
        return Unbilled.BOT
    if backfill:
        return Unbilled.BACKFILL
    return verdict.reason


def cost_of(pricing: Pricing, event_type: EventType, own_cost: int) -> tuple[int, bool]:
    """The cost of a billable event in micros, and whether it is the flat fee (billed once by the ledger)."""
    match pricing.model, event_type:
        case PricingModel.CPM, EventType.IMPRESSION:
            return pricing.price // _PER_THOUSAND, False
        case (PricingModel.CPC, EventType.CLICK) | (PricingModel.CPA, EventType.CONVERSION):
            return pricing.price, False
        case PricingModel.FLAT, _:
            return pricing.price, True
        case PricingModel.EVENT, _:
            return own_cost, False
    return 0, False


def _url(url: str | None, *, private: bool) -> str:
    if not url:
        return ""
    return url.partition("#")[0].partition("?")[0] if private else url
